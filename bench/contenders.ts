// SPDX-License-Identifier: Apache-2.0
import type { Contender } from "./plugin-call.ts";

/** The peers: Debian's plugins, which keep no datastore. Each has a network of its own. */
function peer(name: string, main: object, subnet: string): Contender {
  return {
    name,
    plugin: `/opt/cni/bin/${name.split(" ")[0] ?? ""}`,
    conf: {
      cniVersion: "1.0.0",
      name: `bench-${name.split(" ")[0] ?? ""}`,
      ...main,
      ipam: { type: "host-local", ranges: [[{ subnet }]], routes: [{ dst: "0.0.0.0/0" }] },
    },
    args: () => "",
  };
}

export const PTP: Contender = peer("ptp + host-local", { type: "ptp", ipMasq: false }, "10.201.0.0/16");
export const BRIDGE: Contender = peer(
  "bridge + host-local",
  { type: "bridge", bridge: "bench0", isGateway: true, ipMasq: false },
  "10.202.0.0/16",
);

export const GINGHAM: Contender = {
  name: "gingham",
  plugin: "/opt/cni/bin/gingham",
  conf: { cniVersion: "1.0.0", name: "k8s-pod-network", type: "gingham" },
  args: (pod) => `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${podName(pod)}`,
};

/** Name of the n-th Pod object that the bench makes. */
export function podName(pod: number): string {
  return `bench-${pod}`;
}

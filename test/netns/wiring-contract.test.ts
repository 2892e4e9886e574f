// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import type { PodWiring } from "../../src/cni/ports.ts";
import { describeWiring } from "../../src/cni/wiring.contract.ts";
import { openConnIn, openNetns, withNetns } from "../../src/netlink/netns.ts";
import { KernelPodWiring } from "../../src/netlink/ops/pod-wiring.ts";

/** A missing privilege fails here, with ip's own words. */
function ip(...args: string[]): string {
  return execFileSync("ip", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

describeWiring("kernel", async () => {
  const prefix = `cnit-${process.pid}`;
  const host = `${prefix}-host`;
  const made = new Set<string>();
  const addNamed = (full: string): string => {
    if (made.has(full)) ip("netns", "delete", full);
    ip("netns", "add", full);
    made.add(full);
    return `/run/netns/${full}`;
  };
  const hostPath = addNamed(host);
  const hostNetns = openNetns(hostPath);
  const conn = openConnIn(hostPath);
  const kernel = new KernelPodWiring(conn);
  /** The calls do their kernel work before they return, so this thread may stand in the "host" just that long. */
  const onHost = <T>(call: () => Promise<T>): Promise<T> => {
    let result: Promise<T> | undefined;
    withNetns(hostNetns, () => {
      result = call();
    });
    return result ?? Promise.reject(new Error("withNetns did not call"));
  };
  const wiring: PodWiring = {
    identifyNetns: (path) => kernel.identifyNetns(path),
    wire: (plan) => onHost(() => kernel.wire(plan)),
    unwire: (link) => onHost(() => kernel.unwire(link)),
    unwireFromNetns: (pod) => onHost(() => kernel.unwireFromNetns(pod)),
    inspect: (query) => onHost(() => kernel.inspect(query)),
  };
  return {
    wiring,
    addNetns: async (name) => addNamed(`${prefix}-${name}`),
    removeNetns: async (name) => {
      ip("netns", "delete", `${prefix}-${name}`);
      made.delete(`${prefix}-${name}`);
    },
    addForeignIface: async (name, iface) => {
      ip("-n", `${prefix}-${name}`, "link", "add", iface, "type", "bridge");
    },
    hostIfIndexOf: async (hostIface) => {
      const links = JSON.parse(ip("-n", host, "-j", "link", "show")) as { ifname: string; ifindex: number }[];
      return links.find((link) => link.ifname === hostIface)?.ifindex;
    },
    [Symbol.asyncDispose]: async () => {
      conn[Symbol.dispose]();
      hostNetns[Symbol.dispose]();
      for (const name of made) ip("netns", "delete", name);
    },
  };
});

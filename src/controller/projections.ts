// SPDX-License-Identifier: Apache-2.0
import { type Node, OUT_OF_SERVICE_TAINT, type Pod } from "../crds/core.ts";
import type { NodeFacts, PodFacts } from "../ipam/gc/types.ts";
import { formatIP, parseIP } from "../net/ip.ts";
import type { NodeRoom } from "./ports.ts";

/**
 * Written by a node's agent: addresses, with commas between them, of sandboxes that run although the API server does not
 * know their pods any more. The collector leaves them alone.
 */
export const IN_USE_ANNOTATION = "gingham.dev/addresses-in-use";

/** Source: calico-interop 3.7: a pod's address before its kubelet has published it. */
const CALICO_ANNOTATIONS = ["cni.projectcalico.org/podIP", "cni.projectcalico.org/podIPs"] as const;
/** Its label `type`: such a node runs in a pod, and has that pod's address. Source: virtual-kubelet's node specification. */
const VIRTUAL_KUBELET = "virtual-kubelet";
/** Written by Multus: JSON, a list of networks with their `ips`. Source: Network Plumbing WG, network status. */
const NETWORK_STATUS = "k8s.v1.cni.cncf.io/network-status";

/** What is kept of each pod. */
export function projectPodFacts({ metadata, spec, status }: Pod): PodFacts {
  const annotations = metadata.annotations ?? {};
  const texts = [
    status?.podIP ?? "",
    ...(status?.podIPs ?? []).map(({ ip }) => ip),
    ...CALICO_ANNOTATIONS.flatMap((name) => (annotations[name] ?? "").split(",")),
    ...networkStatusIPs(annotations[NETWORK_STATUS]),
  ];
  return {
    nodeName: spec?.nodeName ?? "",
    isFinished: status?.phase === "Succeeded" || status?.phase === "Failed",
    hasIP: (status?.podIP ?? "") !== "",
    addresses: canonicalIPs(texts),
  };
}

/** What is kept of each node. */
export function projectNodeFacts({ metadata, spec, status }: Node): NodeFacts {
  // Node's type has only what every reader needs; the server has checked the rest. Source: core/v1 NodeCondition.
  const { conditions } = (status ?? {}) as { conditions?: readonly { type: string; status: string }[] };
  const ready = conditions?.find(({ type }) => type === "Ready");
  return {
    // `False` comes from a kubelet that lives; `Unknown` is written for one that has fallen silent.
    isUnreachable: ready?.status === "Unknown",
    isOutOfService: spec?.taints?.some(({ key }) => key === OUT_OF_SERVICE_TAINT) ?? false,
    inUse: canonicalIPs((metadata.annotations?.[IN_USE_ANNOTATION] ?? "").split(",")),
  };
}

/** What pools are judged by. */
export function projectNodeRoom({ metadata, status }: Node): NodeRoom {
  // Source: core/v1 NodeStatus; quantities are texts.
  const { allocatable } = (status ?? {}) as { allocatable?: Readonly<Record<string, string>> };
  const maxPods = Number(allocatable?.["pods"] ?? "none");
  const internal = (status?.addresses ?? []).filter(({ type }) => type === "InternalIP").map(({ address }) => address);
  return {
    name: metadata.name,
    labels: metadata.labels ?? {},
    ...(Number.isInteger(maxPods) && { maxPods }),
    addresses: metadata.labels?.["type"] === VIRTUAL_KUBELET ? [] : canonicalIPs(internal).map(parseIP),
  };
}

export function isSameRoom(a: NodeRoom, b: NodeRoom): boolean {
  const labels = ({ labels }: NodeRoom): string =>
    JSON.stringify(
      Object.keys(labels)
        .toSorted()
        .map((key) => [key, labels[key]]),
    );
  return a.maxPods === b.maxPods && labels(a) === labels(b) && a.addresses.join() === b.addresses.join();
}

export function isSamePod(a: PodFacts, b: PodFacts): boolean {
  return (
    a.nodeName === b.nodeName &&
    a.isFinished === b.isFinished &&
    a.hasIP === b.hasIP &&
    a.addresses.join() === b.addresses.join()
  );
}

function networkStatusIPs(text: string | undefined): readonly string[] {
  if (text === undefined) return [];
  try {
    const networks: unknown = JSON.parse(text);
    if (!Array.isArray(networks)) return [];
    return networks.flatMap((network: unknown) => {
      const ips: unknown = typeof network === "object" && network !== null ? Reflect.get(network, "ips") : undefined;
      return Array.isArray(ips) ? ips.filter((ip): ip is string => typeof ip === "string") : [];
    });
  } catch {
    // Somebody else's annotation: what cannot be read says nothing.
    return [];
  }
}

function canonicalIPs(texts: readonly string[]): readonly string[] {
  const found = new Set<string>();
  for (const text of texts) {
    const [bare = ""] = text.trim().split("/");
    if (bare === "") continue;
    try {
      found.add(formatIP(parseIP(bare)));
    } catch {
      // No address; a pod with none that can be read has none that could be compared.
    }
  }
  return [...found];
}

// SPDX-License-Identifier: Apache-2.0
import { formatIP } from "../../net/ip.ts";
import type { ClusterView, HeldAddress, KeepReason, LeakReason, Owner, PodFacts, Verdict } from "./types.ts";

const keep = (why: KeepReason): Verdict => ({ kind: "keep", why });
const leak = (why: LeakReason): Verdict => ({ kind: "leak", why });

/**
 * What one look at the cluster says of one address. A leak is freed only when later looks agree, see `census.ts`.
 *
 * Where a pod is in doubt the owning node is asked: an address that its agent calls in use stays, and nothing is taken
 * from a node that cannot be reached, since its sandboxes may run on.
 *
 * Source: calico-interop 2.10; the rules about nodes are stricter than Calico's.
 */
export function verdictOf(address: HeldAddress, owner: Owner, view: ClusterView): Verdict {
  switch (owner.kind) {
    case "windows":
      return keep("windows");
    case "unknown":
      return keep("unknownOwner");
    case "tunnel":
      return isGone(owner.node, view) ? leak("nodeGone") : keep("nodeExists");
    case "attachment":
      return isGone(owner.node, view) ? leak("nodeGone") : keep("nodeDecides");
    case "pod":
      return podVerdict(address, owner, view);
  }
}

/** True for a node that has no Node object, in a cluster that has some. */
export function isGone(node: string, view: ClusterView): boolean {
  return view.hasNodes && view.node(node) === undefined;
}

function podVerdict(address: HeldAddress, owner: Owner & { readonly kind: "pod" }, view: ClusterView): Verdict {
  const why = whyLeaked(address, owner, view.pod(owner.namespace, owner.pod));
  if (why === "podHoldsIt" || why === "podWithoutAddress") return keep(why);
  const node = view.node(owner.node);
  if (node === undefined) return view.hasNodes ? leak(why) : keep("nodeDecides");
  if (node.inUse.includes(formatIP(address.ip)) && !node.isOutOfService) return keep("nodeSaysInUse");
  if (node.isUnreachable && !node.isOutOfService) return keep("nodeUnreachable");
  return leak(why);
}

function whyLeaked(
  address: HeldAddress,
  owner: Owner & { readonly kind: "pod" },
  pod: PodFacts | undefined,
): LeakReason | "podHoldsIt" | "podWithoutAddress" {
  if (pod === undefined) return "podGone";
  if (pod.nodeName !== owner.node) return "podElsewhere";
  // Before the kubelet has published an address, the pod's may be any.
  if (!pod.hasIP && !pod.isFinished) return "podWithoutAddress";
  if (pod.isFinished) return "podFinished";
  return pod.addresses.includes(formatIP(address.ip)) ? "podHoldsIt" : "notThePodsAddress";
}

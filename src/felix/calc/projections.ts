// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { Node } from "../../crds/core.ts";
import { BORROWS_ANNOTATION } from "./borrowed.ts";
import { ADDRESS_ANNOTATIONS } from "./node-addresses.ts";
import {
  type Condition,
  conditionsOf,
  ENCAPSULATION_UNSUPPORTED,
  LINK_MTU_ANNOTATION,
  NETWORK_UNAVAILABLE,
} from "./node-status.ts";
import { IPIP_ADDRESS_ANNOTATION, TUNNEL_ADDRESS_ANNOTATIONS, TUNNEL_MAC_ANNOTATIONS } from "./vtep.ts";

const KEPT_ANNOTATIONS: readonly string[] = [ADDRESS_ANNOTATIONS, TUNNEL_ADDRESS_ANNOTATIONS, TUNNEL_MAC_ANNOTATIONS]
  .flatMap((keys) => Object.values(keys))
  .concat(BORROWS_ANNOTATION, IPIP_ADDRESS_ANNOTATION, LINK_MTU_ANNOTATION);

/**
 * What Felix keeps of each object, for an informer's `project` and `equal`. A Node as served is 10 KB or more (images,
 * conditions) and its kubelet rewrites it all day; of this Felix needs a few hundred bytes that hardly ever change.
 */

/** Keeps what `resolveNodeAddresses`, `planNodeStatus`, `planCondition`, the node gate and `borrowsOf` read. */
export function projectNode(node: Node): Node {
  const { name, resourceVersion, annotations } = node.metadata;
  const kept = KEPT_ANNOTATIONS.flatMap((key) => {
    const text = annotations?.[key];
    return text === undefined ? [] : [[key, text] as const];
  });
  const addresses = node.status?.addresses;
  const { podCIDRs, taints } = node.spec ?? {};
  const status = { ...(addresses === undefined ? {} : { addresses }), conditions: ownConditions(node) };
  return {
    apiVersion: node.apiVersion,
    kind: node.kind,
    metadata: {
      name,
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      annotations: Object.fromEntries(kept),
    },
    ...(podCIDRs === undefined && taints === undefined
      ? {}
      : { spec: { ...(podCIDRs && { podCIDRs }), ...(taints && { taints }) } }),
    status,
  };
}

/** Whether two projections say the same, heartbeats apart. */
export function sameNode(a: Node, b: Node): boolean {
  return essence(a) === essence(b);
}

/** Keeps what claims are read from; labels and managed fields go. */
export function projectAffinity(affinity: BlockAffinity): BlockAffinity {
  const { name, uid, resourceVersion, creationTimestamp } = affinity.metadata;
  return {
    apiVersion: affinity.apiVersion,
    kind: affinity.kind,
    metadata: {
      name,
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      ...(creationTimestamp === undefined ? {} : { creationTimestamp }),
    },
    spec: affinity.spec,
  };
}

function essence(node: Node): string {
  const conditions = ownConditions(node).map(({ type, status, message }) => [type, status, message]);
  return JSON.stringify([node.metadata.annotations, node.spec, node.status?.addresses, conditions]);
}

/** Those that an agent writes. */
function ownConditions(node: Node): readonly Condition[] {
  return conditionsOf(node).filter(({ type }) => type === NETWORK_UNAVAILABLE || type === ENCAPSULATION_UNSUPPORTED);
}

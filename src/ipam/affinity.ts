// SPDX-License-Identifier: Apache-2.0
import { BLOCK_AFFINITIES, type BlockAffinity, type BlockAffinityState } from "../crds/block-affinity.ts";
import { affinityLabels } from "../crds/labels.ts";
import { affinityName } from "../crds/names.ts";
import { type CIDR, formatCIDR, parseCIDR } from "../net/cidr.ts";

/** What a block's `affinity` says when this node owns it. */
export function hostAffinity(node: string): string {
  return `host:${node}`;
}

/** The node that owns a block, or undefined for nobody and for virtual owners. */
export function nodeOfAffinity(affinity: string | undefined): string | undefined {
  return affinity?.startsWith("host:") ? affinity.slice("host:".length) : undefined;
}

/** A node's first claim to a block. */
export function pendingAffinity(node: string, cidr: CIDR): BlockAffinity {
  return {
    apiVersion: `${BLOCK_AFFINITIES.group}/${BLOCK_AFFINITIES.version}`,
    kind: BLOCK_AFFINITIES.kind,
    metadata: { name: affinityName(node, cidr), labels: affinityLabels(node, cidr) },
    spec: { cidr: formatCIDR(cidr), node, state: "pending", type: "host", deleted: "false" },
  };
}

/** The same claim in another state. Every write carries the labels, so that an object of an old release gets them. */
export function withState(affinity: BlockAffinity, state: BlockAffinityState): BlockAffinity {
  const { node, cidr } = affinity.spec;
  const labels = { ...affinity.metadata.labels, ...affinityLabels(node, parseCIDR(cidr)) };
  return {
    ...affinity,
    metadata: { ...affinity.metadata, labels },
    spec: { ...affinity.spec, state, deleted: "false" },
  };
}

/** No state at all is an object of an old release, which wrote them only when they were confirmed. */
export function isConfirmed(affinity: BlockAffinity): boolean {
  return affinity.spec.state === "confirmed" || affinity.spec.state === "";
}

/** True for this node's own claims; virtual owners (load balancers) are somebody else, and tombstones are gone. */
export function isHostAffinityOf(affinity: BlockAffinity, node: string): boolean {
  const { spec } = affinity;
  return spec.node === node && (spec.type ?? "host") !== "virtual" && spec.deleted !== "true";
}

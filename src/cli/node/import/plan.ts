// SPDX-License-Identifier: Apache-2.0
import type { Segment } from "../../../cni/ipam-plugin/segment.ts";
import type { PodRef } from "../../../cni/types.ts";
import type { EffectiveIPPool } from "../../../crds/ip-pool.ts";
import { cidrContains, formatCIDR } from "../../../net/cidr.ts";
import { formatIP, type IP } from "../../../net/ip.ts";
import type { Lease } from "./leases.ts";

export interface ImportFacts {
  readonly leases: readonly Lease[];
  /** Where a lease's address is, by the address's text: the path of the namespace. */
  readonly namespaces: ReadonlyMap<string, string>;
  /** Whether the runtime has noted a namespace for it, which has not the address any more. */
  readonly isEnded: (lease: Lease) => boolean;
  readonly podOf: (ip: IP) => PodRef | undefined;
  /** The enabled ones. */
  readonly pools: readonly EffectiveIPPool[];
  /** Subnets that the node has on its own links, such as a bridge, with its address there. */
  readonly segments: readonly (Segment & { readonly link: string })[];
}

/** A lease and what becomes of it. */
export type ImportStep = { readonly lease: Lease } & (
  | { readonly kind: "claim"; readonly netns: string; readonly pod?: PodRef; readonly segment?: Segment }
  /** Its container has gone without a DEL. */
  | { readonly kind: "ended" }
  /** Nobody can tell whether it is in use. */
  | { readonly kind: "unknown" }
  | { readonly kind: "problem"; readonly why: string }
);

/**
 * Says what to do with each lease. One that is in use must be in a pool; and where it shares a subnet with others, the block must be that
 * subnet: a smaller one has a blackhole that cuts the others off, a larger one is other nodes', too.
 */
export function planImport(facts: ImportFacts): readonly ImportStep[] {
  return facts.leases.map((lease) => stepOf(lease, facts));
}

function stepOf(lease: Lease, { namespaces, isEnded, podOf, pools, segments }: ImportFacts): ImportStep {
  const { ip } = lease;
  const netns = namespaces.get(formatIP(ip));
  if (netns === undefined) return { lease, kind: isEnded(lease) ? "ended" : "unknown" };
  const segment = segments.find(({ subnet }) => cidrContains(subnet, ip));
  const pool = pools.find(({ cidr }) => cidrContains(cidr, ip));
  if (pool === undefined) {
    const size = segment === undefined ? "" : ` with blockSize ${segment.subnet.prefixLength}`;
    return { lease, kind: "problem", why: `no enabled IPPool has it: make one${size}` };
  }
  if (segment !== undefined && segment.subnet.prefixLength !== pool.blockSize) {
    const subnet = `${formatCIDR(segment.subnet)} on ${segment.link}`;
    const why = `the node has ${subnet} as one subnet, and IPPool ${pool.name} has blocks of /${pool.blockSize}: use a pool with blockSize ${segment.subnet.prefixLength}`;
    return { lease, kind: "problem", why };
  }
  const pod = podOf(ip);
  return { lease, kind: "claim", netns, ...(pod && { pod }), ...(segment && { segment }) };
}

/** What stands in the last column of the plan. */
export function describeImport(step: ImportStep): string {
  switch (step.kind) {
    case "claim":
      return "claim";
    case "ended":
      return "none: its container has gone; the file can be deleted";
    case "unknown":
      return "none: no namespace has it, and the runtime tells of none; delete the file if the container has gone, else drain the node";
    case "problem":
      return step.why;
    default:
      return step satisfies never;
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlockSpec } from "../crds/ipam-block.ts";
import { cidrSize, parseCIDR } from "../net/cidr.ts";

/** One broken invariant of a block, in the terms of `calicoctl ipam check` (calico-interop 7.3). */
export type BlockFinding =
  | { readonly kind: "sizeMismatch"; readonly expected: number; readonly found: number }
  | { readonly kind: "attributeOutOfRange"; readonly ordinal: number; readonly index: number }
  | { readonly kind: "unreferencedAttribute"; readonly index: number }
  | { readonly kind: "releasedInFuture"; readonly index: number; readonly releasedAt: string }
  | { readonly kind: "duplicateFree"; readonly ordinal: number }
  | { readonly kind: "freeOutOfRange"; readonly ordinal: number }
  | { readonly kind: "freeButAllocated"; readonly ordinal: number };

/** Everything that is wrong with a block; nothing for a sound one. `nowMs` is Unix time in milliseconds. */
export function checkBlock(block: IPAMBlockSpec, nowMs: number): readonly BlockFinding[] {
  const findings: BlockFinding[] = [];
  const size = cidrSize(parseCIDR(block.cidr));
  const referenced = new Set<number>();
  let allocated = 0;
  for (const [ordinal, index] of block.allocations.entries()) {
    if (index === null) continue;
    allocated++;
    referenced.add(index);
    if (index >= block.attributes.length) findings.push({ kind: "attributeOutOfRange", ordinal, index });
  }
  for (const [index, { releasedAt }] of block.attributes.entries()) {
    if (!referenced.has(index)) findings.push({ kind: "unreferencedAttribute", index });
    if (releasedAt !== undefined && !(Date.parse(releasedAt) <= nowMs))
      findings.push({ kind: "releasedInFuture", index, releasedAt });
  }
  const seen = new Set<number>();
  for (const ordinal of block.unallocated) {
    if (seen.has(ordinal)) findings.push({ kind: "duplicateFree", ordinal });
    seen.add(ordinal);
    const entry = block.allocations[ordinal];
    if (entry === undefined) findings.push({ kind: "freeOutOfRange", ordinal });
    else if (entry !== null) findings.push({ kind: "freeButAllocated", ordinal });
  }
  const found = allocated + block.unallocated.length;
  if (found !== size || block.allocations.length !== size)
    findings.push({ kind: "sizeMismatch", expected: size, found });
  return findings;
}

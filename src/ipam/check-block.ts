// SPDX-License-Identifier: Apache-2.0
import type { AllocationAttribute, IPAMBlockSpec } from "../crds/ipam-block.ts";
import { cidrSize, parseCIDR } from "../net/cidr.ts";

/** One broken invariant of a block, in the terms of `calicoctl ipam check` (calico-interop 7.3). */
export type BlockFinding =
  | { readonly kind: "sizeMismatch"; readonly expected: number; readonly found: number }
  | { readonly kind: "attributeOutOfRange"; readonly ordinal: number; readonly index: number }
  | { readonly kind: "unreferencedAttribute"; readonly index: number }
  | { readonly kind: "releasedInFuture"; readonly index: number; readonly releasedAt: string }
  /** In use by a record that names nobody, so that nothing will ever free them. See `isNameless`. */
  | { readonly kind: "namelessAttribute"; readonly index: number; readonly ordinals: readonly number[] }
  | { readonly kind: "duplicateFree"; readonly ordinal: number }
  | { readonly kind: "freeOutOfRange"; readonly ordinal: number }
  | { readonly kind: "freeButAllocated"; readonly ordinal: number };

/** Findings that make it impossible to say which addresses are free. The others are untidy, and no more. */
const DAMAGE: ReadonlySet<BlockFinding["kind"]> = new Set<BlockFinding["kind"]>([
  "sizeMismatch",
  "attributeOutOfRange",
  "duplicateFree",
  "freeOutOfRange",
  "freeButAllocated",
]);

/** What contradicts itself in a block: it is left alone then. Nothing when its addresses can be assigned and freed. */
export function damageOf(block: IPAMBlockSpec): readonly BlockFinding[] {
  // The time matters to findings that are no damage.
  return checkBlock(block, Number.POSITIVE_INFINITY).filter(({ kind }) => DAMAGE.has(kind));
}

/**
 * Whether an owner record says nothing at all: what is left of `releasedAt` when a Calico up to 3.32 writes a block with
 * cooling addresses, or a CRD without the field prunes it. It may as well be an address that a program took without a
 * handle, so that nobody can tell whether it is in use: it is reported, and freed by people only.
 *
 * Source: calico-interop 0, danger.
 */
export function isNameless({ handle_id: handleID, ...record }: AllocationAttribute): boolean {
  if (handleID !== undefined || record.releasedAt !== undefined) return false;
  const texts = { ...record.secondary, ...record.alternateOwnerAttrs };
  return Object.keys(texts).length === 0;
}

/** Everything that is wrong with a block; nothing for a sound one. `nowMs` is Unix time in milliseconds. */
export function checkBlock(block: IPAMBlockSpec, nowMs: number): readonly BlockFinding[] {
  const findings: BlockFinding[] = [];
  const size = cidrSize(parseCIDR(block.cidr));
  const referenced = new Set<number>();
  const nameless = new Map<number, number[]>();
  let allocated = 0;
  for (const [ordinal, index] of block.allocations.entries()) {
    if (index === null) continue;
    allocated++;
    referenced.add(index);
    const record = block.attributes[index];
    if (record === undefined) findings.push({ kind: "attributeOutOfRange", ordinal, index });
    else if (isNameless(record)) nameless.set(index, [...(nameless.get(index) ?? []), ordinal]);
  }
  for (const [index, ordinals] of nameless) findings.push({ kind: "namelessAttribute", index, ordinals });
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

// SPDX-License-Identifier: Apache-2.0
import { IPAM_HANDLES, type IPAMHandle } from "../crds/ipam-handle.ts";
import { handleName } from "../crds/names.ts";

/** How many addresses a handle holds, by block. Never less than the blocks say; more is harmless. */
export type HandleBlocks = Readonly<Record<string, number>>;

export function newHandle(handleID: string, block: HandleBlocks): IPAMHandle {
  return {
    apiVersion: `${IPAM_HANDLES.group}/${IPAM_HANDLES.version}`,
    kind: IPAM_HANDLES.kind,
    metadata: { name: handleName(handleID) },
    spec: { handleID, block, deleted: false },
  };
}

export function withBlocks(handle: IPAMHandle, block: HandleBlocks): IPAMHandle {
  return { ...handle, spec: { ...handle.spec, block } };
}

/** One more (or, with a negative number, fewer) in each block; a key that comes to nothing goes away. */
export function addToBlocks(blocks: HandleBlocks, keys: Iterable<string>, count: number): HandleBlocks {
  const next: Record<string, number> = { ...blocks };
  for (const key of keys) {
    const sum = (next[key] ?? 0) + count;
    if (sum > 0) next[key] = sum;
    else delete next[key];
  }
  return next;
}

/** The counts of these blocks become just what the blocks themselves say. Keys that are not there stay away. */
export function settleBlocks(blocks: HandleBlocks, actual: ReadonlyMap<string, number>): HandleBlocks {
  const next: Record<string, number> = { ...blocks };
  for (const [key, count] of actual) {
    if (count > 0) next[key] = count;
    else delete next[key];
  }
  return next;
}

export function isSameBlocks(a: HandleBlocks, b: HandleBlocks): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

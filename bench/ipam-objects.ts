// SPDX-License-Identifier: Apache-2.0
import { BLOCK_AFFINITIES } from "../src/crds/block-affinity.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../src/crds/ipam-block.ts";
import { IPAM_HANDLES } from "../src/crds/ipam-handle.ts";
import { blockName } from "../src/crds/names.ts";
import { hostAffinity, pendingAffinity, withState } from "../src/ipam/affinity.ts";
import { assign, newBlock, nextRevision } from "../src/ipam/block.ts";
import { newHandle } from "../src/ipam/handle.ts";
import type { KubeClient } from "../src/kube/api.ts";
import { type CIDR, formatCIDR, parseCIDR } from "../src/net/cidr.ts";
import { inParallel } from "./stack.ts";

/** Blocks as nodes have left them: each address of a pod of its own. */
export interface FilledBlock {
  readonly cidr: CIDR;
  readonly node: string;
  /** Addresses in use. */
  readonly used: number;
}

const HANDLE_PREFIX = "bench.filled";

/** Writes the blocks, with their affinities, and with their handles where somebody will look for them. */
export async function createBlocks(
  client: KubeClient,
  blocks: readonly FilledBlock[],
  { hasHandles }: { readonly hasHandles: boolean },
): Promise<void> {
  await inParallel(blocks.length, 16, async (i) => {
    const filled = blocks[i];
    if (filled === undefined) return;
    const affinity = withState(pendingAffinity(filled.node, filled.cidr), "confirmed");
    await client.create(BLOCK_AFFINITIES, affinity);
    await client.create(IPAM_BLOCKS, render(filled));
    if (!hasHandles) return;
    for (let n = 0; n < filled.used; n++)
      await client.create(IPAM_HANDLES, newHandle(handleOf(filled.cidr, n), { [formatCIDR(filled.cidr)]: 1 }));
  });
}

function render({ cidr, node, used }: FilledBlock): IPAMBlock {
  // Old enough for nobody to wait for it.
  let spec = newBlock(cidr, hostAffinity(node), { ms: 0, ns: 1_787_395_200_123_456_789n });
  for (let n = 0; n < used; n++) {
    const pod = `${blockName(cidr)}-${n}`;
    const attributes = { namespace: "default", node, pod, timestamp: "2026-08-22 10:40:00.123 +0000 UTC" };
    spec = nextRevision(assign(spec, { handleID: handleOf(cidr, n), attributes, count: 1 }).block);
  }
  const { group, version, kind } = IPAM_BLOCKS;
  return { apiVersion: `${group}/${version}`, kind, metadata: { name: blockName(cidr) }, spec };
}

function handleOf(cidr: CIDR, n: number): string {
  return `${HANDLE_PREFIX}-${blockName(cidr)}-${n}`;
}

/** The n-th /26 of 10.0.0.0/8. */
export function nthBlock(n: number): CIDR {
  return parseCIDR(`10.${n >> 10}.${(n >> 2) & 255}.${(n & 3) * 64}/26`);
}

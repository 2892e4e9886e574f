// SPDX-License-Identifier: Apache-2.0
import { effectiveIPPool, IP_POOLS } from "../../crds/ip-pool.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../../crds/ipam-block.ts";
import { blockName } from "../../crds/names.ts";
import { heldAddresses } from "../../ipam/gc/addresses.ts";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import type { KubeClient } from "../../kube/api.ts";
import { NotFoundError } from "../../kube/errors.ts";
import { blockOf, cidrContains, parseCIDR } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";

/** The block around an address, and who holds the address in it now. */
export interface Whereabouts {
  readonly block: IPAMBlock;
  readonly holder?: HeldAddress;
}

/** Undefined when no block has the address. Errors: of reading pools and blocks. */
export async function findAddress(client: KubeClient, ip: IP): Promise<Whereabouts | undefined> {
  const block = await findBlock(client, ip);
  if (block === undefined) return undefined;
  const holder = heldAddresses(block.spec).find((held) => held.ip === ip);
  return { block, ...(holder && { holder }) };
}

/** By the names that the pools of today give blocks; else by looking at all, for a block of a pool that was. */
async function findBlock(client: KubeClient, ip: IP): Promise<IPAMBlock | undefined> {
  const pools = (await client.list(IP_POOLS)).items.map(effectiveIPPool);
  for (const { cidr, blockSize } of pools) {
    if (!cidrContains(cidr, ip)) continue;
    try {
      return await client.get(IPAM_BLOCKS, blockName(blockOf(ip, blockSize)));
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
    }
  }
  for await (const { items } of client.listPages(IPAM_BLOCKS, { limit: 500 })) {
    const found = items.find(({ spec }) => !spec.deleted && cidrContains(parseCIDR(spec.cidr), ip));
    if (found !== undefined) return found;
  }
  return undefined;
}

// SPDX-License-Identifier: Apache-2.0
import { affinityLabels } from "../../crds/labels.ts";
import { blockName } from "../../crds/names.ts";
import { type CIDR, parseCIDR } from "../../net/cidr.ts";
import { withState } from "../affinity.ts";
import { isEmptyBlock } from "../block.ts";
import { isInPools, selectorsInUse, selectsNode } from "../pools.ts";
import { refusedError } from "./attempts.ts";
import type { TableTools } from "./block-table.ts";
import type { SearchTools } from "./search.ts";
import { releaseEmpty } from "./takeover.ts";

type UpkeepTools = Pick<TableTools & SearchTools, "sources" | "store" | "nodeName" | "onBackgroundError">;

/**
 * Gives this node's claims the labels that old releases did not write, without which Calico's own components do not find
 * them. Source: calico-interop 1.5.
 */
export async function labelOwned({ sources, store, nodeName, onBackgroundError }: UpkeepTools): Promise<void> {
  for (const affinity of await sources.ownAffinities()) {
    const { labels } = affinity.metadata;
    const wanted = Object.entries(affinityLabels(nodeName, parseCIDR(affinity.spec.cidr)));
    if (wanted.every(([key, value]) => labels?.[key] === value)) continue;
    // Empty text is how old releases wrote that a claim is confirmed.
    const outcome = await store.update("affinity", withState(affinity, affinity.spec.state || "confirmed"));
    // Somebody else wrote it meanwhile: then it has labels now, or gets them with the next write.
    if (outcome.kind === "refused")
      onBackgroundError(refusedError(`label affinity ${affinity.metadata.name}`, outcome));
  }
}

/**
 * Gives up empty blocks of pools that do not select this node any more. Source: calico-interop 2.2, step 3.
 *
 * @param onGone hears of each block that is this node's no longer
 */
export async function giveUpStrays(tools: UpkeepTools, onGone: (cidr: CIDR) => void): Promise<void> {
  const { sources, store, onBackgroundError } = tools;
  const pools = (await sources.pools()).filter(({ enabled }) => enabled);
  if (!selectorsInUse(pools).nodeSelector) return;
  const labels = await sources.nodeLabels();
  for (const affinity of await sources.ownAffinities()) {
    const cidr = parseCIDR(affinity.spec.cidr);
    const around = pools.filter((pool) => isInPools(cidr, [pool]));
    if (around.length === 0 || around.some((pool) => selectsNode(pool, labels) !== false)) continue;
    try {
      const block = await store.get("block", blockName(cidr));
      if (block === undefined || !isEmptyBlock(block.spec)) continue;
      if (await releaseEmpty(store, affinity, block.spec.sequenceNumber)) onGone(cidr);
    } catch (error) {
      onBackgroundError(error);
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../../crds/ipam-block.ts";

/** How fast a pool's blocks are claimed. Units: days. */
export type Growth =
  | { readonly kind: "unknown"; readonly why: string }
  | { readonly kind: "still"; readonly windowDays: number }
  | {
      readonly kind: "growing";
      readonly windowDays: number;
      readonly blocksPerDay: number;
      readonly daysToFull: number;
    };

/** How the figures come about, for whoever reads them. */
export const GROWTH_METHOD: string =
  "Growth is counted by the claim times of the blocks that exist, over at most the last 7 days and without the first day " +
  "of the pool, in which every node claims its first block. Blocks that were given up meanwhile are not seen, so the pool " +
  "lasts at least as long as this if its use goes on as it was.";

const DAY_MS = 86_400_000;
const MAX_WINDOW_MS = 7 * DAY_MS;
const MIN_WINDOW_MS = DAY_MS;
/** Every node claims its first block when the cluster begins: that is no growth. */
const SKIPPED_MS = DAY_MS;

/**
 * Blocks seldom go, so their claim times tell how their number grew, without any history being kept.
 *
 * @param blocks those of the pool
 * @param unclaimed how many are left
 */
export function growthOf(blocks: readonly IPAMBlock[], unclaimed: number, nowMs: number): Growth {
  const claims = blocks.map(({ spec }) => Date.parse(spec.affinityClaimTime ?? "")).filter((ms) => !Number.isNaN(ms));
  if (claims.length === 0) return { kind: "unknown", why: "no block says when it was claimed" };
  const oldestMs = claims.reduce((a, b) => Math.min(a, b));
  const startMs = Math.max(oldestMs + SKIPPED_MS, nowMs - MAX_WINDOW_MS);
  const windowMs = nowMs - startMs;
  if (windowMs < MIN_WINDOW_MS) {
    const hours = Math.max(0, Math.floor((nowMs - oldestMs) / 3_600_000));
    const needed = (SKIPPED_MS + MIN_WINDOW_MS) / 3_600_000;
    return { kind: "unknown", why: `not enough history: the oldest block is ${hours} h old, and it takes ${needed} h` };
  }
  const windowDays = windowMs / DAY_MS;
  const claimed = claims.filter((ms) => ms >= startMs).length;
  if (claimed === 0) return { kind: "still", windowDays };
  const blocksPerDay = claimed / windowDays;
  return { kind: "growing", windowDays, blocksPerDay, daysToFull: unclaimed / blocksPerDay };
}

// SPDX-License-Identifier: Apache-2.0

/** A count; beyond nine digits (IPv6) its size is what matters. */
export function formatCount(count: bigint): string {
  return count < 1_000_000_000n ? count.toString() : Number(count).toExponential(4);
}

/** A part in percent; what is not nothing is never 0%, and what is not all is never 100%. */
export function formatPercent(part: bigint, whole: bigint): string {
  if (whole === 0n || part === 0n) return "0%";
  if (part === whole) return "100%";
  const percent = (Number(part) / Number(whole)) * 100;
  if (percent < 1) return "<1%";
  return percent > 99 ? ">99%" : `${Math.round(percent)}%`;
}

const CELLS = 10;

/** A picture of a part: a cell is begun with its first address. */
export function formatBar(part: bigint, whole: bigint): string {
  const filled = whole === 0n ? 0 : Math.min(CELLS, Math.ceil((Number(part) / Number(whole)) * CELLS));
  return "█".repeat(filled) + "░".repeat(CELLS - filled);
}

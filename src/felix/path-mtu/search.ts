// SPDX-License-Identifier: Apache-2.0
import type { Family } from "../../net/ip.ts";

/** What every path carries. Source: RFC 791, RFC 8200. Units: bytes. */
const SMALLEST_BYTES: Readonly<Record<Family, number>> = { 4: 576, 6: 1280 };
/** A packet can be lost for other reasons than its size. */
const TRIES = 3;

/** What one path carries. */
export type PathMTU =
  /** Nobody answers, so nothing is known of the path. */
  | { readonly kind: "silent" }
  | { readonly kind: "wide" }
  /** Packets up to that size are answered, larger ones are not. Units: bytes. */
  | { readonly kind: "narrow"; readonly bytes: number };

/**
 * Finds out whether a path carries packets of a size, and if not, of which.
 *
 * @param echo whether a packet of that size was answered
 */
export async function measurePath(
  echo: (packetBytes: number) => Promise<boolean>,
  family: Family,
  neededBytes: number,
): Promise<PathMTU> {
  const isAnswered = async (packetBytes: number): Promise<boolean> => {
    for (let i = 0; i < TRIES; i++) if (await echo(packetBytes)) return true;
    return false;
  };
  if (await isAnswered(neededBytes)) return { kind: "wide" };
  let [fits, tooLarge] = [Math.min(SMALLEST_BYTES[family], neededBytes), neededBytes];
  if (!(await isAnswered(fits))) return { kind: "silent" };
  while (tooLarge - fits > 1) {
    const middle = Math.floor((fits + tooLarge) / 2);
    if (await isAnswered(middle)) fits = middle;
    else tooLarge = middle;
  }
  // The large ones may have been lost by chance.
  return fits === neededBytes - 1 && (await isAnswered(neededBytes))
    ? { kind: "wide" }
    : { kind: "narrow", bytes: fits };
}

// SPDX-License-Identifier: Apache-2.0

/**
 * JSON that keeps 64-bit integers exact.
 *
 * A block's sequence number is Unix time in nanoseconds, beyond 2^53, and `JSON.parse` would round it; a rounded number
 * written back makes every later release of that block fail, or match a recycled address. So an integer that a double
 * cannot hold is read as a bigint, and every bigint is written as a bare integer.
 */

/** A run of 16 or more digits is the only text that can hold such an integer. */
const MAY_HOLD_BIG_INTEGER = /\d{16}/;
const INTEGER = /^-?\d+$/;

/** @throws SyntaxError as JSON.parse does. */
export function parseJSON(text: string): unknown {
  // The reviver is called for each value and costs several times the parse, so most documents go without it.
  if (!MAY_HOLD_BIG_INTEGER.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key, value: unknown, context?: { source?: string }) => {
    if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
    const source = context?.source;
    return source !== undefined && INTEGER.test(source) ? BigInt(source) : value;
  });
}

export function stringifyJSON(value: unknown, indent?: number): string {
  return JSON.stringify(value, (_key, v: unknown) => (typeof v === "bigint" ? rawJSON(v.toString()) : v), indent);
}

/** TypeScript's library does not know JSON.rawJSON (ES2026) yet. */
const { rawJSON } = JSON as unknown as { readonly rawJSON: (text: string) => unknown };

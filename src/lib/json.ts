// SPDX-License-Identifier: Apache-2.0

/**
 * JSON that keeps 64-bit integers exact.
 *
 * A block's sequence number is Unix time in nanoseconds, beyond 2^53, and `JSON.parse` would round it; a rounded number
 * written back makes every later release of that block fail, or match a recycled address. So an integer that a double
 * cannot hold is read as a bigint, and every bigint is written as a bare integer.
 *
 * Revivers and replacers are called for each value and cost several times the parse, which an ADD would pay for several
 * times over. So on the way in wide integers become marked strings before the parse.
 */

/** An integer of 16 digits or more; anything shorter is exact as it is. */
const LONG_INTEGER = /-?[1-9]\d{15,}(?=\s*(?:[,}\]]|$))/g;
/** In front of a wide integer's digits, as JSON writes it and as it is read. No document of ours holds it otherwise. */
const ESCAPED_MARK = "\\u0000";
const MARK = "\0";
const INTEGER = /^-?\d+$/;

/** @throws SyntaxError as JSON.parse does. */
export function parseJSON(text: string): unknown {
  const marked = text.replace(LONG_INTEGER, (digits) =>
    Number.isSafeInteger(Number(digits)) ? digits : `"${ESCAPED_MARK}${digits}"`,
  );
  if (marked === text) return JSON.parse(text);
  if (text.includes(ESCAPED_MARK)) return parseSlowly(text);
  let value: unknown;
  try {
    value = JSON.parse(marked);
  } catch {
    // It is no JSON, or digits were marked that are a part of something else: in a string the mark's own quote ends it,
    // and the backslash that follows never parses; behind a point or an exponent a quote does not.
    return parseSlowly(text);
  }
  return unmark(value);
}

export function stringifyJSON(value: unknown, indent?: number): string {
  return JSON.stringify(value, (_key, v: unknown) => (typeof v === "bigint" ? rawJSON(v.toString()) : v), indent);
}

function parseSlowly(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown, context?: { source?: string }) => {
    if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
    const source = context?.source;
    return source !== undefined && INTEGER.test(source) ? BigInt(source) : value;
  });
}

/** Turns marked strings into bigints, in place: nobody else has seen the value yet. */
function unmark(value: unknown): unknown {
  if (typeof value === "string") return value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) if (isMarkable(value[i])) value[i] = unmark(value[i]);
  } else if (typeof value === "object" && value !== null) {
    const members = value as Record<string, unknown>;
    for (const key of Object.keys(members)) {
      const member = members[key];
      if (isMarkable(member)) members[key] = unmark(member);
    }
  }
  return value;
}

function isMarkable(value: unknown): boolean {
  return typeof value === "string" || typeof value === "object";
}

/** TypeScript's library does not know JSON.rawJSON (ES2026) yet. */
const { rawJSON } = JSON as unknown as { readonly rawJSON: (text: string) => unknown };

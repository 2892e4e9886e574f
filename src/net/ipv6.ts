// SPDX-License-Identifier: Apache-2.0
import { parseIPv4 } from "./ipv4.ts";

/** IPv6 address as an unsigned 128-bit bigint. */
export type IPv6 = bigint & { readonly __family: 6 };

function bad(text: string): SyntaxError {
  return new SyntaxError(`Not an IPv6 address: ${JSON.stringify(text)}`);
}

function parseGroups(part: string, text: string): number[] {
  if (part === "") return [];
  const groups: number[] = [];
  const words = part.split(":");
  for (const [i, word] of words.entries()) {
    if (word.includes(".") && i === words.length - 1) {
      let v4: number;
      try {
        v4 = parseIPv4(word);
      } catch (cause) {
        throw Object.assign(bad(text), { cause });
      }
      groups.push(v4 >>> 16, v4 & 0xffff);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(word)) throw bad(text);
      groups.push(Number.parseInt(word, 16));
    }
  }
  return groups;
}

/**
 * Parses any textual form of RFC 4291 section 2.2. Zones (`%eth0`) are refused.
 *
 * @throws SyntaxError
 */
export function parseIPv6(text: string): IPv6 {
  const halves = text.split("::");
  if (halves.length > 2) throw bad(text);
  const head = parseGroups(halves[0] ?? "", text);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? "", text) : [];
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) throw bad(text);
  // A dotted quad may only end the address, so it cannot stand before "::".
  if (halves.length === 2 && halves[0]?.includes(".")) throw bad(text);
  let value = 0n;
  for (const group of [...head, ...new Array<number>(missing).fill(0), ...tail]) value = (value << 16n) | BigInt(group);
  return value as IPv6;
}

/**
 * Writes the canonical form: lower case, the first longest run of two or more zero groups as `::`. Addresses mapped
 * from IPv4 (::ffff:0:0/96) end in a dotted quad, as Go writes them: object names of blocks depend on it.
 *
 * Source: RFC 5952 section 4.
 */
export function formatIPv6(ip: IPv6): string {
  if (ip >> 32n === 0xffffn) {
    const v4 = Number(ip & 0xffffffffn);
    return `::ffff:${v4 >>> 24}.${(v4 >>> 16) & 255}.${(v4 >>> 8) & 255}.${v4 & 255}`;
  }
  const groups: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(Number((ip >> shift) & 0xffffn));
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > length) {
      start = i;
      length = run;
    }
    i += run;
  }
  const hex = (part: number[]): string => part.map((g) => g.toString(16)).join(":");
  return start < 0 ? hex(groups) : `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}

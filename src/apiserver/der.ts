// SPDX-License-Identifier: Apache-2.0

/** The few pieces of DER that a certificate is made of. Source: ITU-T X.690. */

const CONSTRUCTED = 0x20;
const CONTEXT = 0x80;

export function tagged(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([tag, ...lengthOf(body.length)]), body]);
}

function lengthOf(length: number): number[] {
  if (length < 0x80) return [length];
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return [0x80 | bytes.length, ...bytes];
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => tagged(0x30, ...parts);
export const set = (...parts: readonly Uint8Array[]): Buffer => tagged(0x31, ...parts);
export const octets = (bytes: Uint8Array): Buffer => tagged(0x04, bytes);
/** A bit string of whole bytes. */
export const bits = (bytes: Uint8Array): Buffer => tagged(0x03, Buffer.from([0]), bytes);
export const bool = (value: boolean): Buffer => tagged(0x01, Buffer.from([value ? 0xff : 0]));
export const text = (value: string): Buffer => tagged(0x0c, Buffer.from(value, "utf8"));
/** `[number]` around whole elements. */
export const explicit = (number: number, ...parts: readonly Uint8Array[]): Buffer =>
  tagged(CONTEXT | CONSTRUCTED | number, ...parts);
/** `[number]` in the place of a primitive element's own tag. */
export const implicit = (number: number, bytes: Uint8Array): Buffer => tagged(CONTEXT | number, bytes);

/** A number that is not negative, from its bytes, most significant first. */
export function integer(bytes: Uint8Array): Buffer {
  const first = bytes.findIndex((b) => b !== 0);
  const body = Buffer.from(first < 0 ? [0] : bytes.subarray(first));
  return tagged(0x02, (body[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), body]) : body);
}

/** An object identifier in dotted form. */
export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const septets = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) septets.unshift((left & 0x7f) | 0x80);
    bytes.push(...septets);
  }
  return tagged(0x06, Buffer.from(bytes));
}

/** Units: milliseconds. Years from 2050 on need the long form. Source: RFC 5280 4.1.2.5. */
export function time(ms: number): Buffer {
  const digits = `${new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+Z/g, "")}Z`;
  return digits < "2050" ? tagged(0x17, Buffer.from(digits.slice(2))) : tagged(0x18, Buffer.from(digits));
}

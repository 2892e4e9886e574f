// SPDX-License-Identifier: Apache-2.0
import { formatIPv4, type IPv4, parseIPv4 } from "./ipv4.ts";
import { formatIPv6, type IPv6, parseIPv6 } from "./ipv6.ts";

/** IP family, by the number that people say. The kernel's AF_INET and AF_INET6 stay in `netlink/wire`. */
export type Family = 4 | 6;

/** One address. IPv4 is a number and IPv6 a bigint, so `typeof` tells the family and no object is allocated. */
export type IP = IPv4 | IPv6;

/** Width of an address in bits. */
export function bitsOf(family: Family): 32 | 128 {
  return family === 4 ? 32 : 128;
}

export function familyOf(ip: IP): Family {
  return typeof ip === "number" ? 4 : 6;
}

/** @throws SyntaxError when the text is no address of either family. */
export function parseIP(text: string): IP {
  return text.includes(":") ? parseIPv6(text) : parseIPv4(text);
}

/** Writes the canonical text (dotted quad, or RFC 5952). */
export function formatIP(ip: IP): string {
  return typeof ip === "number" ? formatIPv4(ip) : formatIPv6(ip);
}

/** Adds an ordinal to an address. @throws RangeError when the sum leaves the family's range. */
export function addToIP(ip: IP, n: number): IP {
  if (typeof ip === "number") {
    const sum = ip + n;
    if (sum < 0 || sum > 0xffffffff) throw new RangeError(`Address out of range: ${formatIP(ip)} + ${n}`);
    return sum as IPv4;
  }
  const sum = ip + BigInt(n);
  if (sum < 0n || sum >= 1n << 128n) throw new RangeError(`Address out of range: ${formatIP(ip)} + ${n}`);
  return sum as IPv6;
}

/** Network byte order: 4 or 16 bytes. */
export function ipToBytes(ip: IP): Uint8Array {
  if (typeof ip === "number") return Uint8Array.of(ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255);
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, ip >> 64n);
  view.setBigUint64(8, ip & 0xffffffffffffffffn);
  return bytes;
}

/** @throws RangeError when the length is neither 4 nor 16. */
export function ipFromBytes(bytes: Uint8Array): IP {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length === 4) return view.getUint32(0) as IPv4;
  if (bytes.length === 16) return ((view.getBigUint64(0) << 64n) | view.getBigUint64(8)) as IPv6;
  throw new RangeError(`An address has 4 or 16 bytes, got ${bytes.length}`);
}

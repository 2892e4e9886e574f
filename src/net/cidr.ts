// SPDX-License-Identifier: Apache-2.0
import { addToIP, bitsOf, type Family, familyOf, formatIP, type IP, parseIP } from "./ip.ts";
import type { IPv4 } from "./ipv4.ts";
import type { IPv6 } from "./ipv6.ts";

/** A network: host bits are always zero. */
export interface CIDR {
  readonly network: IP;
  readonly prefixLength: number;
}

/** Zeroes the host bits. @throws RangeError when the prefix length does not fit the family. */
export function cidrOf(ip: IP, prefixLength: number): CIDR {
  const bits = bitsOf(familyOf(ip));
  if (!Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > bits)
    throw new RangeError(`Prefix length out of range 0..${bits}: ${prefixLength}`);
  return { network: maskIP(ip, prefixLength), prefixLength };
}

/** The /32 or /128 that holds just this address. */
export function hostCIDR(ip: IP): CIDR {
  return { network: ip, prefixLength: bitsOf(familyOf(ip)) };
}

/** Parses `address/length`; host bits are cleared, as Go's net.ParseCIDR does. @throws SyntaxError */
export function parseCIDR(text: string): CIDR {
  const { ip, prefixLength } = parseIPWithPrefix(text);
  return cidrOf(ip, prefixLength);
}

/** Parses `address/length` and keeps the host bits (`10.0.0.5/24`, as nodes carry it). @throws SyntaxError */
export function parseIPWithPrefix(text: string): { ip: IP; prefixLength: number } {
  const slash = text.indexOf("/");
  const length = text.slice(slash + 1);
  if (slash < 0 || !/^(?:0|[1-9]\d{0,2})$/.test(length)) throw new SyntaxError(`Not a CIDR: ${JSON.stringify(text)}`);
  const ip = parseIP(text.slice(0, slash));
  const prefixLength = Number(length);
  if (prefixLength > bitsOf(familyOf(ip))) throw new SyntaxError(`Not a CIDR: ${JSON.stringify(text)}`);
  return { ip, prefixLength };
}

/** Canonical text, as Go writes it. Object names of blocks are derived from it. */
export function formatCIDR(cidr: CIDR): string {
  return `${formatIP(cidr.network)}/${cidr.prefixLength}`;
}

export function cidrFamily(cidr: CIDR): Family {
  return familyOf(cidr.network);
}

/** Addresses in the network; Infinity is never returned: beyond 2^53 the number is only approximate. */
export function cidrSize(cidr: CIDR): number {
  return 2 ** (bitsOf(cidrFamily(cidr)) - cidr.prefixLength);
}

export function cidrContains(cidr: CIDR, ip: IP): boolean {
  return typeof cidr.network === typeof ip && maskIP(ip, cidr.prefixLength) === cidr.network;
}

/** True when the two networks share an address: one holds the other. */
export function cidrsOverlap(a: CIDR, b: CIDR): boolean {
  return a.prefixLength <= b.prefixLength ? cidrContains(a, b.network) : cidrContains(b, a.network);
}

/** True when every address of `inner` is in `outer`. */
export function cidrCovers(outer: CIDR, inner: CIDR): boolean {
  return outer.prefixLength <= inner.prefixLength && cidrContains(outer, inner.network);
}

/** Index of an address inside a network (the ordinal of a block). @throws RangeError when it is outside. */
export function ordinalOf(cidr: CIDR, ip: IP): number {
  if (!cidrContains(cidr, ip)) throw new RangeError(`${formatIP(ip)} is not in ${formatCIDR(cidr)}`);
  return typeof ip === "number" ? ip - (cidr.network as IPv4) : Number(ip - (cidr.network as IPv6));
}

/** The address with the given ordinal. @throws RangeError when the ordinal is outside the network. */
export function ipAt(cidr: CIDR, ordinal: number): IP {
  if (!Number.isInteger(ordinal) || ordinal < 0 || ordinal >= cidrSize(cidr))
    throw new RangeError(`Ordinal ${ordinal} is outside ${formatCIDR(cidr)}`);
  return addToIP(cidr.network, ordinal);
}

/** The subnet of the given prefix length that holds the address. */
export function blockOf(ip: IP, blockSize: number): CIDR {
  return cidrOf(ip, blockSize);
}

function maskIP(ip: IP, prefixLength: number): IP {
  if (typeof ip === "number") {
    // A shift by 32 is a shift by 0 in JavaScript, so /0 needs its own answer.
    return (prefixLength === 0 ? 0 : (ip & (-1 << (32 - prefixLength))) >>> 0) as IPv4;
  }
  const hostBits = BigInt(128 - prefixLength);
  return ((ip >> hostBits) << hostBits) as IPv6;
}

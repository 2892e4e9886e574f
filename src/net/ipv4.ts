// SPDX-License-Identifier: Apache-2.0

/** IPv4 address as an unsigned 32-bit number, most significant octet first. */
export type IPv4 = number & { readonly __family: 4 };

const OCTET = /^(?:0|[1-9]\d{0,2})$/;

/** Parses a dotted quad. Leading zeros are refused, as in Go's netip. @throws SyntaxError */
export function parseIPv4(text: string): IPv4 {
  const octets = text.split(".");
  if (octets.length !== 4) throw new SyntaxError(`Not an IPv4 address: ${JSON.stringify(text)}`);
  let value = 0;
  for (const octet of octets) {
    const n = Number(octet);
    if (!OCTET.test(octet) || n > 255) throw new SyntaxError(`Not an IPv4 address: ${JSON.stringify(text)}`);
    value = value * 256 + n;
  }
  return value as IPv4;
}

export function formatIPv4(ip: IPv4): string {
  return `${ip >>> 24}.${(ip >>> 16) & 255}.${(ip >>> 8) & 255}.${ip & 255}`;
}

// SPDX-License-Identifier: Apache-2.0
import { bitsOf, type Family } from "../net/ip.ts";

/** Values of `--families`: what nodes, pools and pods of a laboratory have addresses of; the first is a pod's podIP. */
export const FAMILIES: Readonly<Record<"ipv4" | "ipv6" | "dual", readonly Family[]>> = {
  ipv4: [4],
  ipv6: [6],
  dual: [4, 6],
};

const SEGMENT = { 4: { prefix: "172.30.0.", length: 24 }, 6: { prefix: "fd00:172:30::", length: 64 } } as const;

/** An address on the segment that joins the nodes. */
export interface SegmentIP {
  readonly family: Family;
  readonly ip: string;
  readonly prefixLength: number;
}

/** The segment's own end, on which the API server listens. */
export function segmentIPs(families: readonly Family[]): readonly SegmentIP[] {
  return families.map((family) => onSegment(family, 1));
}

/** A node's addresses; their last digits are the same in both families. */
export function nodeIPs(index: number, families: readonly Family[]): readonly SegmentIP[] {
  return families.map((family) => onSegment(family, 11 + index));
}

function onSegment(family: Family, host: number): SegmentIP {
  const { prefix, length } = SEGMENT[family];
  return { family, ip: `${prefix}${host}`, prefixLength: length };
}

/** An address as a URL has it. */
export function hostOfURL(ip: string): string {
  return ip.includes(":") ? `[${ip}]` : ip;
}

/** Prefix length of a family's blocks that have as many addresses as an IPv4 block of the given length. */
export function blockSizeOf(family: Family, blockSize: number): number {
  return blockSize + bitsOf(family) - bitsOf(4);
}

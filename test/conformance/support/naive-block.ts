// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import type { Block, NaiveObject } from "./naive-api.ts";

/** What the naive writer knows of blocks, names and addresses, by its own reading of calico-interop 1. */

export interface Pool {
  readonly cidr: string;
  readonly blockSize: number;
}

export function newBlock(cidr: string, node: string): Block {
  const size = 2 ** (32 - Number(cidr.split("/")[1]));
  return {
    cidr,
    affinity: `host:${node}`,
    affinityClaimTime: new Date().toISOString(),
    allocations: Array.from({ length: size }, () => null),
    unallocated: [...Array(size).keys()],
    attributes: [],
    sequenceNumber: BigInt(Date.now()) * 1_000_000n,
    sequenceNumberForAllocation: {},
    deleted: false,
    strictAffinity: false,
  };
}

/** Ordinals at the tail of the queue, records without an ordinal gone, the rest numbered densely. Source: 1.7. */
export function freed(spec: Block, ordinals: readonly number[]): Block {
  const allocations = spec.allocations.map((index, ordinal) => (ordinals.includes(ordinal) ? null : index));
  const used = [...spec.attributes.keys()].filter((index) => allocations.includes(index));
  const sequences = Object.entries(spec.sequenceNumberForAllocation);
  return {
    ...spec,
    allocations: allocations.map((index) => (index === null ? null : used.indexOf(index))),
    unallocated: [...spec.unallocated, ...ordinals],
    attributes: used.flatMap((index) => spec.attributes[index] ?? []),
    sequenceNumber: BigInt(spec.sequenceNumber) + 1n,
    sequenceNumberForAllocation: Object.fromEntries(sequences.filter(([key]) => !ordinals.includes(Number(key)))),
  };
}

export function bare({ metadata }: Pick<NaiveObject<unknown>, "metadata">): {
  readonly name: string;
  readonly resourceVersion?: string;
} {
  return { name: metadata.name, ...versionOf(metadata) };
}

function versionOf({ resourceVersion }: { readonly resourceVersion?: string }): { readonly resourceVersion?: string } {
  return resourceVersion === undefined ? {} : { resourceVersion };
}

/** Source: calico-interop 1.5. */
export function labelsOf(node: string): Record<string, string> {
  const bits = [...createHash("sha3-256").update(node).digest()].map((byte) => byte.toString(2).padStart(8, "0"));
  const fives = bits.join("").match(/.{1,5}/g) ?? [];
  const letters = fives.map((five) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[Number.parseInt(five.padEnd(5, "0"), 2)]);
  return {
    "projectcalico.org/hostname-hash": letters.join(""),
    "projectcalico.org/affinity-type": "host",
    "projectcalico.org/ip-version": "4",
  };
}

export function nameOf(cidr: string): string {
  return cidr.replace(/[./]/g, "-");
}

export function affinityName(node: string, cidr: string): string {
  return `${node}-${nameOf(cidr)}`;
}

/** The CIDRs of all blocks of a pool. */
export function blockCIDRs({ cidr, blockSize }: Pool): readonly string[] {
  const [network = "", length = ""] = cidr.split("/");
  const count = 2 ** (blockSize - Number(length));
  return Array.from(
    { length: count },
    (_, n) => `${toText(toNumber(network) + n * 2 ** (32 - blockSize))}/${blockSize}`,
  );
}

/** Whether a pool has a block. */
export function isIn(pool: string, cidr: string): boolean {
  const offset = ordinalOf(pool, cidr.split("/")[0] ?? "");
  return offset >= 0 && offset < 2 ** (32 - Number(pool.split("/")[1]));
}

export function blockOf(ip: string, blockSize: number): string {
  const size = 2 ** (32 - blockSize);
  return `${toText(Math.floor(toNumber(ip) / size) * size)}/${blockSize}`;
}

export function ordinalOf(cidr: string, ip: string): number {
  return toNumber(ip) - toNumber(cidr.split("/")[0] ?? "");
}

export function addressOf(cidr: string, ordinal: number): string {
  return toText(toNumber(cidr.split("/")[0] ?? "") + ordinal);
}

function toNumber(ip: string): number {
  return ip.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

function toText(n: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(n / 2 ** shift) % 256).join(".");
}

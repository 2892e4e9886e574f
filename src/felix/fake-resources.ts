// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity, BlockAffinitySpec } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import type { IPPool, IPPoolSpec } from "../crds/ip-pool.ts";
import type { IPAMBlock } from "../crds/ipam-block.ts";
import { blockName } from "../crds/names.ts";
import { cidrSize, parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import type { BorrowedBlock } from "./calc/borrowed.ts";
import type { FelixMetrics, Logger, Source, SourceChange, WorkloadEndpoint } from "./ports.ts";

/** Objects and collaborators for Felix's tests. */

export function fakeNode(name: string, internalIPs: readonly string[], annotations?: Record<string, string>): Node {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, ...(annotations === undefined ? {} : { annotations }) },
    status: { addresses: internalIPs.map((address) => ({ type: "InternalIP", address })) },
  };
}

export function fakeAffinity(
  node: string,
  cidr: string,
  spec: Partial<BlockAffinitySpec> = {},
  creationTimestamp?: string,
): BlockAffinity {
  const name = `${node}-${cidr.replaceAll(/[.:/]/g, "-")}`;
  return {
    apiVersion: "crd.projectcalico.org/v1",
    kind: "BlockAffinity",
    metadata: { name, ...(creationTimestamp === undefined ? {} : { creationTimestamp }) },
    spec: { cidr, node, state: "confirmed", deleted: "false", ...spec },
  };
}

/** A block of 4 or so addresses, of which the ordinals in `holders` are in use; null: in use by no node. */
export function fakeBlock(
  cidr: string,
  affinity: string | undefined,
  holders: Readonly<Record<number, string | null>>,
): IPAMBlock {
  const nodes = [...new Set(Object.values(holders))];
  const allocations = Array.from({ length: cidrSize(parseCIDR(cidr)) }, (_, ordinal) => {
    const holder = holders[ordinal];
    return holder === undefined ? null : nodes.indexOf(holder);
  });
  return {
    apiVersion: "crd.projectcalico.org/v1",
    kind: "IPAMBlock",
    metadata: { name: blockName(parseCIDR(cidr)) },
    spec: {
      cidr,
      ...(affinity === undefined ? {} : { affinity }),
      allocations,
      unallocated: [...allocations.keys()].filter((ordinal) => allocations[ordinal] === null),
      attributes: nodes.map((node) => ({ handle_id: `h-${node}`, ...(node === null ? {} : { secondary: { node } }) })),
      sequenceNumber: 1n,
      sequenceNumberForAllocation: {},
      deleted: false,
      strictAffinity: false,
    },
  };
}

/** Addresses and the nodes that borrow them. */
export function fakeBorrowed(name: string, borrowers: Readonly<Record<string, string>>): BorrowedBlock {
  return { name, addresses: Object.entries(borrowers).map(([ip, node]) => ({ ip: parseIP(ip), node })) };
}

export function fakePool(name: string, cidr: string, spec: Partial<IPPoolSpec> = {}): IPPool {
  return { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name }, spec: { cidr, ...spec } };
}

export function fakeEndpoint(key: string, hostIfIndex: number, ...ips: readonly string[]): WorkloadEndpoint {
  return { key, hostIface: `cali${key}`, hostIfIndex, ips: ips.map(parseIP) };
}

type Named = { readonly metadata: { readonly name: string } } | { readonly name: string };

function nameOf(object: Named): string {
  return "name" in object ? object.name : object.metadata.name;
}

/** A source that tests fill by hand. */
export class FakeSource<T extends Named> implements Source<T> {
  readonly synced: Promise<void>;
  /** Says that the first list is complete. */
  readonly sync: () => void;
  readonly #objects = new Map<string, T>();
  readonly #handlers = new Set<(change: SourceChange<T>) => void>();

  constructor(...objects: readonly T[]) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.synced = promise;
    this.sync = resolve;
    for (const object of objects) this.set(object);
  }

  list(): Iterable<T> {
    return this.#objects.values();
  }

  onChange(handler: (change: SourceChange<T>) => void): () => void {
    this.#handlers.add(handler);
    return () => this.#handlers.delete(handler);
  }

  set(object: T): void {
    this.#objects.set(nameOf(object), object);
    for (const handler of this.#handlers) handler({ key: nameOf(object), new: object });
  }

  delete(name: string): void {
    this.#objects.delete(name);
    for (const handler of this.#handlers) handler({ key: name, new: undefined });
  }
}

/** Keeps the lines instead of printing them. */
export class FakeLog implements Logger {
  readonly lines: { readonly level: string; readonly fields: object; readonly message: string }[] = [];

  debug(fields: object, message: string): void {
    this.lines.push({ level: "debug", fields, message });
  }
  info(fields: object, message: string): void {
    this.lines.push({ level: "info", fields, message });
  }
  warn(fields: object, message: string): void {
    this.lines.push({ level: "warn", fields, message });
  }
  error(fields: object, message: string): void {
    this.lines.push({ level: "error", fields, message });
  }

  /** Messages of a level. */
  said(level: "debug" | "info" | "warn" | "error"): readonly string[] {
    return this.lines.filter((line) => line.level === level).map((line) => line.message);
  }
}

export const noMetrics: FelixMetrics = {
  datastoreResyncStarted: () => {},
  turn: () => {},
  settingsRestored: () => {},
  turnFailed: () => {},
  gauges: () => {},
};

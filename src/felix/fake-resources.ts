// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity, BlockAffinitySpec } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import type { IPPool, IPPoolSpec } from "../crds/ip-pool.ts";
import { parseIP } from "../net/ip.ts";
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

export function fakePool(name: string, cidr: string, spec: Partial<IPPoolSpec> = {}): IPPool {
  return { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name }, spec: { cidr, ...spec } };
}

export function fakeEndpoint(key: string, hostIfIndex: number, ...ips: readonly string[]): WorkloadEndpoint {
  return { key, hostIface: `cali${key}`, hostIfIndex, ips: ips.map(parseIP) };
}

/** A source that tests fill by hand. */
export class FakeSource<T extends { readonly metadata: { readonly name: string } }> implements Source<T> {
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
    this.#objects.set(object.metadata.name, object);
    for (const handler of this.#handlers) handler({ key: object.metadata.name, new: object });
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
  turnFailed: () => {},
  gauges: () => {},
};

// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../../net/ip.ts";
import type { Conntrack, FlushOutcome } from "./ports.ts";

/** A table of tracked connections in memory. */
export class FakeConntrack implements Conntrack {
  /** The addresses of each entry, of both directions. */
  entries: (readonly IP[])[] = [];
  /** Addresses of each flush that was asked for. */
  readonly flushes: (readonly IP[])[] = [];
  /** What happens instead of a flush; it may hang or throw. */
  instead: (() => Promise<FlushOutcome>) | undefined;

  async flush(ips: readonly IP[]): Promise<FlushOutcome> {
    this.flushes.push(ips);
    if (this.instead !== undefined) return this.instead();
    const before = this.entries.length;
    this.entries = this.entries.filter((entry) => !entry.some((ip) => ips.includes(ip)));
    return { kind: "flushed", entries: before - this.entries.length };
  }
}

// SPDX-License-Identifier: Apache-2.0
import { parseTable } from "../nft/parse.ts";
import type { PacketFilterPort } from "../nft/ports.ts";
import { compareOutlines, compareTables, outlineOf, renderDifference, renderTable } from "../nft/render.ts";
import type { ActualTable, Elements, Layout } from "../nft/table.ts";

/** What the table should be. Without elements nothing is known of them yet: a table that is there is left as it is. */
export interface DesiredTable {
  readonly layout: Layout;
  readonly elements: Elements | undefined;
}

/** What one `apply` did. */
export interface FilterReport {
  /** The whole table was written, or some elements, or nothing. */
  readonly wrote: "table" | "elements" | "nothing";
  /** What others had changed, by name; it is as it was again. */
  readonly repaired: readonly string[];
  /** Of the listing, where there was one: packets by counter. */
  readonly counters: ReadonlyMap<string, number> | undefined;
}

/**
 * Makes the table `inet gingham` agree with what is desired.
 *
 * Invariants: `apply` is the only method that talks to nft, and only one call of it runs at a time. Whatever it writes is
 * one transaction, so no packet meets half a table or none. The first call reads before it writes, and so does the one
 * after a failure, since nobody knows then what the kernel has. A table whose layout is right keeps its rules and
 * counters: only elements that differ are written. Only one that is known to be damaged is written without being read.
 */
export class FilterTable {
  readonly #port: PacketFilterPort;
  #actual: Pick<ActualTable, "outline" | "elements"> | undefined;
  #isKnown = false;
  #resyncWanted = true;
  /** What others have certainly done since the last call: a table that is not read first is back in half the time. */
  #damage: readonly string[] = [];
  /** What others had changed, until it is told. */
  #lost: readonly string[] = [];

  constructor(port: PacketFilterPort) {
    this.#port = port;
  }

  /** @param damage what others have certainly done: the table is written anew without being read; empty: it is read */
  requestResync(damage: readonly string[] = []): void {
    this.#resyncWanted = true;
    this.#damage = damage;
  }

  /** @throws NftError; the next call begins with a listing */
  async apply({ layout, elements }: DesiredTable): Promise<FilterReport> {
    let counters: ReadonlyMap<string, number> | undefined;
    const damage = this.#damage;
    this.#damage = [];
    // A former agent's elements are only in the table, so as long as ours are not known there is something to read.
    if (damage.length > 0 && this.#isKnown && elements !== undefined) {
      this.#lost = [...this.#lost, ...damage];
      this.#actual = undefined;
    } else if (this.#resyncWanted) {
      const json = await this.#port.list();
      const listed = json === undefined ? undefined : parseTable(json);
      if (this.#isKnown && this.#actual !== undefined)
        this.#lost = [...this.#lost, ...compareTables(this.#actual, listed)];
      this.#actual = listed;
      this.#isKnown = true;
      this.#resyncWanted = false;
      counters = listed?.counters;
    }
    const wrote = await this.#write(layout, elements);
    const repaired = this.#lost;
    this.#lost = [];
    return { wrote, repaired, counters };
  }

  async #write(layout: Layout, elements: Elements | undefined): Promise<FilterReport["wrote"]> {
    const actual = this.#actual;
    // What stands there is a former agent's, and works.
    if (elements === undefined && actual !== undefined) return "nothing";
    const desired = { outline: outlineOf(layout), elements: elements ?? new Map<string, ReadonlySet<string>>() };
    const isLayoutRight = actual !== undefined && compareOutlines(actual.outline, desired.outline).length === 0;
    const script = isLayoutRight
      ? renderDifference(actual.elements, desired.elements)
      : renderTable(layout, desired.elements);
    if (script !== undefined) {
      this.#resyncWanted = true;
      await this.#port.apply(script);
      this.#resyncWanted = false;
      this.#actual = desired;
    }
    if (script === undefined) return "nothing";
    return isLayoutRight ? "elements" : "table";
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlockSpec } from "../../crds/ipam-block.ts";
import type { IsReserved } from "../block.ts";
import { releasedAtMs } from "../cooldown.ts";

/**
 * The free addresses of one block that this process has seen being released, until they have cooled down: whatever still
 * sends to their last owner should not reach the next one. Only memory: a restart forgets it, and nothing is stored.
 *
 * Bounded by the size of the block, and in practice by what is released within one cooldown.
 */
export class CoolingAddresses {
  readonly #cooldownMs: number;
  /** Time of release by ordinal. All of them are free in `#seen`. */
  readonly #sinceMs = new Map<number, number>();
  /** The block as last shown. */
  #seen: IPAMBlockSpec | undefined;
  #oldestMs = Number.POSITIVE_INFINITY;

  /** @param cooldownMs 0 remembers nothing */
  constructor(cooldownMs: number) {
    this.#cooldownMs = cooldownMs;
  }

  /** Shows the block as it is now: what was in use before and is free has been released, by whomever. */
  show(block: IPAMBlockSpec, nowMs: number): void {
    const before = this.#seen;
    this.#seen = block;
    if (this.#cooldownMs === 0 || before === undefined || before.allocations === block.allocations) return;
    for (const [ordinal, index] of block.allocations.entries()) {
      if (index !== null) this.#sinceMs.delete(ordinal);
      else if (typeof before.allocations[ordinal] === "number")
        // What has cooled down in the block is not released anew by that.
        this.#sinceMs.set(ordinal, releasedAtMs(before, ordinal) ?? nowMs);
    }
    this.#sweep(nowMs);
  }

  /** Nothing cools, whatever the time. */
  get isEmpty(): boolean {
    return this.#sinceMs.size === 0;
  }

  /** True when the ordinal is free and was released less than the cooldown ago. */
  has(ordinal: number, nowMs: number): boolean {
    const sinceMs = this.#sinceMs.get(ordinal);
    return sinceMs !== undefined && this.#isCooling(sinceMs, nowMs);
  }

  /** How many of the free ordinals cool, without the reserved ones. */
  count(nowMs: number, isReserved: IsReserved | undefined): number {
    if (!this.#isCooling(this.#oldestMs, nowMs)) this.#sweep(nowMs);
    if (isReserved === undefined) return this.#sinceMs.size;
    return [...this.#sinceMs.keys()].filter((ordinal) => !isReserved(ordinal)).length;
  }

  /** When the one that cools for longest was released; Infinity when none does. Units: Unix milliseconds. */
  get oldestMs(): number {
    return this.#oldestMs;
  }

  #sweep(nowMs: number): void {
    this.#oldestMs = Number.POSITIVE_INFINITY;
    for (const [ordinal, sinceMs] of this.#sinceMs) {
      if (this.#isCooling(sinceMs, nowMs)) this.#oldestMs = Math.min(this.#oldestMs, sinceMs);
      else this.#sinceMs.delete(ordinal);
    }
  }

  /** A clock that was set back must not make an address cool for hours. */
  #isCooling(sinceMs: number, nowMs: number): boolean {
    const ageMs = nowMs - sinceMs;
    return ageMs >= 0 && ageMs < this.#cooldownMs;
  }
}

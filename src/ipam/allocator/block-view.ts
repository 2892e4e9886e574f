// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import type { Clock } from "../../lib/clock.ts";
import type { CIDR } from "../../net/cidr.ts";
import { hostAffinity } from "../affinity.ts";
import { freeCount } from "../block.ts";
import { nextThawMs, thaw } from "../cooldown.ts";
import type { IPAMSettings, Reservations } from "../ports.ts";
import { CoolingAddresses } from "./cooling.ts";

export interface ViewTools {
  readonly clock: Clock;
  readonly nodeName: string;
  /** As last heard; the same object while nothing changes. */
  readonly reservations: () => Reservations;
  /** As last heard. */
  readonly cooldown: () => Pick<IPAMSettings, "ipCooldownMs" | "recordsReleases">;
  /** How long this process remembers a release and does not give the address again; 0: not at all. Units: milliseconds. */
  readonly cooldownMs: number;
}

/** Where others write the same block, what was seen longer ago than this has changed, most likely. */
const FRESH_MS = 50;

/**
 * A block as it was last read or written, with its resourceVersion, and the places in it that are kept for assignments on
 * their way. It is only ever a guess that saves a read: the write decides.
 */
export class BlockView {
  readonly cidr: CIDR;
  protected readonly cooling: CoolingAddresses;
  readonly #tools: ViewTools;
  readonly #onOwnerChange: () => void;
  /** As last seen, with its resourceVersion; undefined: must be read. */
  #block: IPAMBlock | undefined;
  /** The newest version that was ever seen. */
  #newest: IPAMBlock | undefined;
  /** Units: Unix milliseconds. */
  #seenAtMs = 0;
  #lastFree = 0;
  /** The reservations by which `#lastFree` was counted. */
  #countedBy: Reservations | undefined;
  /** From when on there are more free ones, since they have cooled down in the block. Units: Unix milliseconds. */
  #thawMs = Number.POSITIVE_INFINITY;
  #isOwn = false;
  #reserved = 0;

  /** @param onOwnerChange hears when the block has become this node's, or is so no longer */
  constructor(tools: ViewTools, cidr: CIDR, onOwnerChange: () => void) {
    this.cidr = cidr;
    this.#tools = tools;
    this.#onOwnerChange = onOwnerChange;
    this.cooling = new CoolingAddresses(tools.cooldownMs);
  }

  /** As far as known, this node may assign from the block. */
  get isOwn(): boolean {
    return this.#isOwn;
  }

  /** Free addresses that this node may assign as the owner and nobody waits for, by the block as last seen. */
  get free(): number {
    return this.#isOwn ? this.room : 0;
  }

  /** The same of a block of somebody else, which a node may borrow. */
  get lendable(): number {
    return this.#isOwn ? 0 : this.room;
  }

  /** The same, whoever owns it, without those that were released a moment ago. */
  get rested(): number {
    const room = this.room;
    if (this.cooling.isEmpty) return room;
    const { clock, reservations } = this.#tools;
    return room - this.cooling.count(clock.nowMs(), reservations().of(this.cidr));
  }

  /** Since when the one rests that was released first; Infinity when all have rested. Units: Unix milliseconds. */
  get coolingSinceMs(): number {
    return this.cooling.oldestMs;
  }

  /** Free addresses that nobody waits for, whoever owns the block. */
  get room(): number {
    const reservations = this.#tools.reservations();
    const isOld =
      this.#countedBy !== reservations ||
      (this.#thawMs !== Number.POSITIVE_INFINITY && this.#tools.clock.nowMs() >= this.#thawMs);
    if (this.#block !== undefined && isOld) this.#countFree(this.#block);
    return this.#lastFree - this.#reserved;
  }

  #countFree({ spec }: IPAMBlock): void {
    const { clock, cooldown, reservations } = this.#tools;
    const { ipCooldownMs } = cooldown();
    const thawed = thaw(spec, clock.nowMs(), ipCooldownMs);
    this.#thawMs = nextThawMs(thawed, ipCooldownMs);
    this.#countedBy = reservations();
    this.#lastFree = spec.deleted ? 0 : freeCount(thawed, this.#countedBy.of(this.cidr));
  }

  /** The block as last seen; undefined: it must be read. */
  get block(): IPAMBlock | undefined {
    return this.#block;
  }

  /**
   * Takes over a block that was just read or written elsewhere, such as by a claim. One that is older than what was seen is
   * left: an answer may come late. What is planned on it would bear the sequence number of an earlier write, and be taken
   * for that when the answer to its own write is lost.
   */
  adopt(block: IPAMBlock | undefined): void {
    if (block !== undefined && this.#newest !== undefined && isOlder(block, this.#newest)) return;
    this.#newest = block ?? this.#newest;
    this.#seenAtMs = this.#tools.clock.nowMs();
    this.#block = block;
    const wasOwn = this.#isOwn;
    this.#isOwn = block?.spec.affinity === hostAffinity(this.#tools.nodeName);
    if (this.#isOwn !== wasOwn) this.#onOwnerChange();
    if (block === undefined) this.#lastFree = 0;
    else {
      this.cooling.show(block.spec, this.#tools.clock.nowMs());
      this.#countFree(block);
    }
  }

  /** The same for what a write was taken for: that is how things are, even if a backup has set the numbers back. */
  protected adoptWritten(block: IPAMBlock | undefined): void {
    this.#newest = undefined;
    this.adopt(block);
  }

  /** What was seen is so new that it is worth more than another read. */
  protected get isFresh(): boolean {
    return this.#block !== undefined && this.#tools.clock.nowMs() - this.#seenAtMs < FRESH_MS;
  }

  /** Drops what was seen: the next write reads first. */
  forget(): void {
    this.#block = undefined;
  }

  /**
   * Keeps free addresses for an assignment to come, which `submit` uses up and `unreserve` gives back.
   *
   * @returns how many, at most `count`
   */
  reserve(count: number): number {
    const kept = Math.max(0, Math.min(count, this.room));
    this.#reserved += kept;
    return kept;
  }

  /** Keeps the place of an address that is asked for by name, whether it is free or not. */
  reserveNamed(): void {
    this.#reserved++;
  }

  unreserve(count: number): void {
    this.#reserved -= count;
  }

  /** Places that are kept. */
  protected get reserved(): number {
    return this.#reserved;
  }
}

/** Every write of a block moves its sequence number on, but those of its status. */
function isOlder(block: IPAMBlock, known: IPAMBlock): boolean {
  return block.metadata.uid === known.metadata.uid && block.spec.sequenceNumber < known.spec.sequenceNumber;
}

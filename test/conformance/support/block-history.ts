// SPDX-License-Identifier: Apache-2.0
import {
  type Block,
  type Handle,
  isTombstone,
  type NaiveAPI,
  type NaiveObject,
  type Plural,
  parse,
} from "./naive-api.ts";
import { blockCIDRs, isIn, newBlock } from "./naive-block.ts";

interface Event {
  readonly type: string;
  readonly plural: Plural;
  readonly version: bigint;
  readonly object: NaiveObject<Block | Handle>;
}

/**
 * Every version of every block of a pool and of every handle, as two watches tell it, put into the one order that the API
 * server's resource versions give. `findings` replays it and says where an invariant of calico-interop 1 and 2 broke.
 */
export class BlockHistory {
  readonly #pool: string;
  readonly #events: Event[] = [];
  readonly #stop = new AbortController();
  #watches: Promise<unknown> = Promise.resolve();
  /** Settles at the next event, or when a watch fails. */
  #heard: Promise<unknown> = Promise.resolve();
  #tell: () => void = () => {};

  private constructor(pool: string) {
    this.#pool = pool;
  }

  /** Begins to watch. The pool must be without blocks. */
  static async start(api: NaiveAPI, pool: string): Promise<BlockHistory> {
    const history = new BlockHistory(pool);
    const { resourceVersion } = await api.list("ipamblocks");
    const watch = (plural: Plural): Promise<void> =>
      api.watch(plural, resourceVersion, history.#stop.signal, (line) => history.#note(plural, line));
    history.#watches = Promise.all([watch("ipamblocks"), watch("ipamhandles")]);
    // Told by stop().
    history.#watches.catch(() => {});
    history.#expect();
    return history;
  }

  /** Resolves when everything was heard that came before. Makes an object of each kind for that, and deletes it. */
  async stop(api: NaiveAPI, name: string): Promise<void> {
    const [cidr = ""] = blockCIDRs({ cidr: this.#pool, blockSize: 32 });
    const marks = [
      await api.create("ipamblocks", { name }, newBlock(cidr, name)),
      await api.create("ipamhandles", { name }, { handleID: name, block: {}, deleted: false }),
    ];
    for (const mark of marks) while (!this.#has(mark?.metadata.uid)) await this.#heard;
    await api.remove("ipamblocks", name);
    await api.remove("ipamhandles", name);
    this.#stop.abort();
    await this.#watches;
  }

  /** How many versions of blocks and handles there were. */
  get length(): number {
    return this.#events.length;
  }

  /** How often a node got an address out of another's block, and a block right after another node. By node. */
  rarities(): {
    readonly borrowed: Readonly<Record<string, number>>;
    readonly tookOver: Readonly<Record<string, number>>;
  } {
    const blocks = new Map<string, Block>();
    const borrowed: Record<string, number> = {};
    const tookOver: Record<string, number> = {};
    for (const { plural, object } of this.#inOrder()) {
      const { spec } = object;
      if (plural !== "ipamblocks" || !("cidr" in spec)) continue;
      const before = blocks.get(spec.cidr);
      blocks.set(spec.cidr, spec);
      if (before === undefined) continue;
      const owner = spec.affinity?.slice("host:".length) ?? "";
      if (before.affinity !== spec.affinity) tookOver[owner] = (tookOver[owner] ?? 0) + 1;
      for (const ordinal of spec.allocations.keys()) {
        const { handle_id, secondary } = spec.attributes[spec.allocations[ordinal] ?? -1] ?? {};
        const node = secondary?.["node"] ?? owner;
        if (node !== owner && ownerAt(before, ordinal) !== handle_id) borrowed[node] = (borrowed[node] ?? 0) + 1;
      }
    }
    return { borrowed, tookOver };
  }

  /** All that was ever wrong; nothing in a sound history. */
  findings(): readonly string[] {
    const findings: string[] = [];
    const blocks = new Map<string, Block>();
    const handles = new Map<string, Record<string, number>>();
    for (const { type, plural, object } of this.#inOrder()) {
      const { spec } = object;
      if (plural === "ipamblocks" && "cidr" in spec) {
        const before = blocks.get(spec.cidr);
        const wrong = type === "DELETED" ? wrongsOfEnd(spec) : wrongsOf(before, spec, type === "ADDED");
        findings.push(...wrong.map((what) => `${spec.cidr} ${type} at ${object.metadata.resourceVersion}: ${what}`));
        // The last version stays: a block that is made again must count on from there.
        blocks.set(spec.cidr, spec);
        for (const [handleID, count] of countsOf(spec))
          findings.push(...underCount(handles, handleID, spec.cidr, count));
      } else if ("handleID" in spec) {
        const isGone = type === "DELETED" || isTombstone(spec);
        handles.set(spec.handleID, isGone ? {} : spec.block);
        for (const block of blocks.values()) {
          const count = countsOf(block).get(spec.handleID) ?? 0;
          findings.push(...underCount(handles, spec.handleID, block.cidr, count));
        }
      }
    }
    return findings;
  }

  #inOrder(): readonly Event[] {
    return this.#events.toSorted((a, b) => (a.version < b.version ? -1 : 1));
  }

  #expect(): void {
    const next = new Promise<void>((resolve) => (this.#tell = resolve));
    this.#heard = Promise.race([next, this.#watches]);
    this.#heard.catch(() => {});
  }

  #has(uid: string | undefined): boolean {
    return this.#events.some(({ object }) => object.metadata.uid === uid);
  }

  #note(plural: Plural, line: string): void {
    const { type, object } = parse<{ type: string; object: NaiveObject<Block | Handle> }>(line);
    if (type === "BOOKMARK") return;
    if (type === "ERROR") throw new Error(`A watch of ${plural} failed: ${line}`);
    const { spec, metadata } = object;
    if ("cidr" in spec && !isIn(this.#pool, spec.cidr)) return;
    this.#events.push({ type, plural, version: BigInt(metadata.resourceVersion ?? 0), object });
    this.#tell();
    this.#expect();
  }
}

function countsOf({ allocations, attributes }: Block): Map<string, number> {
  const counts = new Map<string, number>();
  for (const index of allocations) {
    const handleID = attributes[index ?? -1]?.handle_id;
    if (handleID !== undefined) counts.set(handleID, (counts.get(handleID) ?? 0) + 1);
  }
  return counts;
}

function underCount(
  handles: ReadonlyMap<string, Record<string, number>>,
  handleID: string,
  cidr: string,
  count: number,
): readonly string[] {
  const counted = handles.get(handleID)?.[cidr] ?? 0;
  return counted < count ? [`Handle ${handleID} counts ${counted} in ${cidr}, which has ${count}`] : [];
}

function wrongsOfEnd({ allocations }: Block): readonly string[] {
  return allocations.some((index) => index !== null) ? ["deleted with addresses in use"] : [];
}

function wrongsOf(before: Block | undefined, after: Block, isNew: boolean): readonly string[] {
  const wrongs: string[] = [];
  const { allocations, unallocated, attributes } = after;
  const sequences = after.sequenceNumberForAllocation ?? {};
  const ordinals = [...allocations.keys()];
  const free = ordinals.filter((ordinal) => allocations[ordinal] === null);
  const used = ordinals.filter((ordinal) => allocations[ordinal] !== null);
  if (unallocated.toSorted((a, b) => a - b).join() !== free.join()) wrongs.push("unallocated is not the null ordinals");
  const referenced = [...new Set(used.map((ordinal) => allocations[ordinal] ?? -1))].sort((a, b) => a - b);
  if (referenced.join() !== [...attributes.keys()].join()) wrongs.push("attributes are not dense");
  if (Object.keys(sequences).join() !== used.join()) wrongs.push("sequence numbers are not those of the used ordinals");
  if (isTombstone(after) && used.length > 0) wrongs.push("tombstone with addresses in use");
  const now = BigInt(after.sequenceNumber);
  if (before === undefined) return wrongs;
  const isSame = shapeOf(before) === shapeOf(after);
  const last = BigInt(before.sequenceNumber);
  // A tombstone and a status move no counter.
  if (now < last || (now === last && (isNew || !isSame))) wrongs.push(`sequence number ${now} after ${last}`);
  for (const ordinal of isNew ? [] : used) {
    const isGiven = ownerAt(before, ordinal) !== ownerAt(after, ordinal);
    if (isGiven && BigInt(sequences[ordinal] ?? 0) !== now - 1n)
      wrongs.push(`ordinal ${ordinal} was given with ${sequences[ordinal]} in version ${now}`);
    if (isGiven && isTombstone(before)) wrongs.push(`ordinal ${ordinal} was given from a tombstone`);
  }
  return wrongs;
}

function ownerAt({ allocations, attributes }: Block, ordinal: number): string | undefined {
  return attributes[allocations[ordinal] ?? -1]?.handle_id;
}

function shapeOf({ allocations, unallocated, attributes, affinity }: Block): string {
  return JSON.stringify([allocations, unallocated, attributes, affinity]);
}

// SPDX-License-Identifier: Apache-2.0
import type { IPAMHandle } from "../../crds/ipam-handle.ts";
import { handleName } from "../../crds/names.ts";
import { IPAMError } from "../errors.ts";
import { type HandleBlocks, isSameBlocks, newHandle, withBlocks } from "../handle.ts";
import { createLimiter, type Limiter } from "../limiter.ts";
import type { DeleteOutcome, IPAMStore, Refused, Unknown, Written } from "../ports.ts";
import { attempts, type LoopTools, refusedError } from "./attempts.ts";

/** Handle writes in flight at once, so that a burst does not make the block's write wait behind all of its handles. */
const IN_FLIGHT = 32;
/** Handles kept with their resourceVersions; an older one costs its DEL a read. */
const REMEMBERED = 4096;

/**
 * The handles of this node's attachments, which nobody else writes as long as all goes well: so a new handle is created
 * without a look, and one that we wrote is changed and deleted by the resourceVersion that we know.
 */
export class HandleWriter {
  readonly #store: IPAMStore;
  readonly #tools: LoopTools;
  readonly #limiter: Limiter = createLimiter(IN_FLIGHT);
  readonly #known = new Map<string, IPAMHandle>();
  readonly #locks = new Map<string, Promise<void>>();

  constructor(store: IPAMStore, tools: LoopTools) {
    this.#store = store;
    this.#tools = tools;
  }

  /** One call at a time for each handle: then nobody's count can be ahead of its block but our own. */
  async withLock<T>(handleID: string, fn: () => Promise<T>): Promise<T> {
    const name = handleName(handleID);
    const before = this.#locks.get(name);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#locks.set(name, promise);
    try {
      await before;
      return await fn();
    } finally {
      if (this.#locks.get(name) === promise) this.#locks.delete(name);
      resolve();
    }
  }

  /** What the handle counts; nothing when there is none. */
  async blocksOf(handleID: string): Promise<HandleBlocks> {
    const handle = this.#known.get(handleID) ?? (await this.#read(handleID));
    if (handle !== undefined) this.#remember(handleID, handle);
    return handle?.spec.block ?? {};
  }

  /**
   * Makes the handle's counts what `update` says, creating and deleting the object as needed. `update` is called again
   * for each attempt, with what is stored now; a missing handle is no blocks.
   *
   * @param isNew assume that there is no handle, and read only when that turns out wrong.
   *
   * Errors: IPAMError; with `mayHoldAddresses` when the change may or may not have been made.
   */
  async change(handleID: string, update: (blocks: HandleBlocks) => HandleBlocks, isNew = false): Promise<void> {
    const progress: { intended?: HandleBlocks } = {};
    try {
      await this.#change(handleID, update, isNew, progress);
    } catch (error) {
      if (progress.intended === undefined) throw error;
      const what = `Cannot tell whether the write of handle ${handleID} was taken`;
      const step = "release the handle when the API server answers again";
      throw new IPAMError("Datastore", `${what}; ${step}`, { cause: error, mayHoldAddresses: true });
    }
  }

  async #change(
    handleID: string,
    update: (blocks: HandleBlocks) => HandleBlocks,
    isNew: boolean,
    progress: { intended?: HandleBlocks },
  ): Promise<void> {
    let current = this.#known.get(handleID);
    let isCurrent = current !== undefined || isNew;
    for await (const _ of attempts(this.#tools, `write handle ${handleID}`)) {
      if (!isCurrent) current = await this.#read(handleID);
      isCurrent = false;
      const blocks = current?.spec.block ?? {};
      // A write without an answer was taken after all: nobody else writes just the same.
      if (progress.intended !== undefined && isSameBlocks(blocks, progress.intended)) {
        if (current !== undefined) this.#remember(handleID, current);
        return;
      }
      const next = update(blocks);
      if (isSameBlocks(next, blocks)) return;
      const outcome = await this.#limiter(() => this.#write(handleID, current, next));
      this.#known.delete(handleID);
      if (outcome.kind === "ok") {
        if ("object" in outcome) this.#remember(handleID, outcome.object);
        return;
      }
      if (outcome.kind === "refused") throw refusedError(`write handle ${handleID}`, outcome);
      if (outcome.kind === "unknown") progress.intended = next;
    }
  }

  async #write(
    handleID: string,
    current: IPAMHandle | undefined,
    next: HandleBlocks,
  ): Promise<Written<IPAMHandle> | DeleteOutcome | { readonly kind: "exists" | "notFound" } | Unknown | Refused> {
    if (current === undefined) return await this.#store.create("handle", newHandle(handleID, next));
    if (Object.keys(next).length === 0) return await this.#store.delete("handle", current);
    return await this.#store.update("handle", withBlocks(current, next));
  }

  async #read(handleID: string): Promise<IPAMHandle | undefined> {
    const handle = await this.#store.get("handle", handleName(handleID));
    if (handle === undefined || handle.spec.handleID === handleID) return handle;
    const what = `Cannot use handle ${handleID}: its object ${handle.metadata.name} belongs to ${handle.spec.handleID}`;
    throw new IPAMError("InvalidHandle", `${what}, which differs by case alone; rename one of the two networks`);
  }

  #remember(handleID: string, handle: IPAMHandle): void {
    this.#known.set(handleID, handle);
    if (this.#known.size <= REMEMBERED) return;
    const oldest = this.#known.keys().next();
    if (!oldest.done) this.#known.delete(oldest.value);
  }
}

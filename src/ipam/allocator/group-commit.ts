// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { blockName } from "../../crds/names.ts";
import { type CIDR, formatCIDR } from "../../net/cidr.ts";
import { type BatchPlan, type BatchRules, type BlockOp, type BlockOpResult, type Places, planBatch } from "../batch.ts";
import { thaw } from "../cooldown.ts";
import { IPAMError } from "../errors.ts";
import type { DeleteOutcome, IPAMStore, Refused, UpdateOutcome } from "../ports.ts";
import { attempts, type LoopTools, refusedError } from "./attempts.ts";
import { BlockView, type ViewTools } from "./block-view.ts";

export interface CommitTools extends LoopTools, ViewTools {
  readonly store: IPAMStore;
  /** Reads the block through its affinity, for assignments; undefined when the block is not this node's. */
  readonly loadOwn: (cidr: CIDR) => Promise<IPAMBlock | undefined>;
  /** Lets everything run that became ready at the same moment, so that it shares one write. */
  readonly turn: () => Promise<void>;
  /** Hears of a stored block that is damaged. */
  readonly onBroken: (cidr: CIDR, error: IPAMError) => void;
}

/**
 * A write waits for assignments that have reserved a place and are still writing their handles, until so many times as
 * many are here as are to come. Whatever the speed of the API server, a full block of 64 then takes about four writes;
 * a lone assignment waits for nobody.
 */
const HERE_PER_COMING = 4;
/** And no longer than this: one of them may hang. */
const GATHER_LIMIT_MS = 100;

interface Waiter {
  readonly op: BlockOp;
  readonly signal: AbortSignal | undefined;
  /** Places that writes of unknown outcome may have given. While there are any, the waiter cannot be dropped. */
  readonly tried: Places[];
  readonly settle: (result: BlockOpResult | Error) => void;
}

/**
 * All writes of one block by this process: a group commit. What arrives while a write is under way goes into the next
 * one. Standalone, the group is a group of one.
 *
 * A write needs no read before it, since what was last seen stays here (`BlockView`), and each write is a
 * compare-and-swap. Hazards:
 * - A conflict makes everything computed from the old block worthless, so the whole batch is worked out again.
 * - A write without an answer may have been taken, or may be taken later, until another write of the block is. So a
 *   waiter of such a write stays until its place is found in the block or the block has moved on without it.
 * - A write that is refused for one waiter's sake must not fail the others: they are tried one by one.
 */
export class BlockCommitter extends BlockView {
  readonly #tools: CommitTools;
  readonly #queue: Waiter[] = [];
  #isRunning = false;
  #idleTask: (() => Promise<void>) | undefined;
  /** A look that is under way. */
  #look: Promise<void> | undefined;
  /** Ends the wait for others that are on their way; absent while nothing waits. */
  #allHere: (() => void) | undefined;

  /** @param onOwnerChange hears when the block has become this node's, or is so no longer */
  constructor(tools: CommitTools, cidr: CIDR, onOwnerChange: () => void) {
    super(tools, cidr, onOwnerChange);
    this.#tools = tools;
  }

  override unreserve(count: number): void {
    super.unreserve(count);
    this.#noteArrival();
  }

  /**
   * Puts the op into the next write and resolves when that is taken.
   *
   * Errors: IPAMError; with `mayHoldAddresses` when nobody knows whether the assignment was taken; the signal's reason
   * when it aborted before the op was written. An assignment that was written while the signal aborted resolves: it must
   * be released.
   */
  async submit(op: BlockOp, signal?: AbortSignal): Promise<BlockOpResult> {
    return await new Promise((resolve, reject) => {
      const settle = (result: BlockOpResult | Error): void => {
        if (op.kind === "assign") super.unreserve(op.count);
        if (result instanceof Error) reject(result);
        else resolve(result);
      };
      this.#queue.push({ op, signal, tried: [], settle });
      this.#noteArrival();
      this.#start();
    });
  }

  /** Runs a task in the place of a write, when nothing else waits. A second one replaces the first. */
  whenIdle(task: () => Promise<void>): void {
    this.#idleTask = task;
    this.#start();
  }

  /** Frees in the stored block what has cooled down, if anything has. Rejects as `submit` does. */
  async thaw(): Promise<void> {
    if (this.block === undefined || !this.isOwn) return;
    const { spec } = this.block;
    const thawed = thaw(spec, this.#tools.clock.nowMs(), this.#tools.cooldown().ipCooldownMs);
    if (thawed !== spec) await this.submit({ kind: "thaw" });
  }

  /** Reads the block again, in case others gave addresses back. */
  async refresh(): Promise<void> {
    const before = this.block;
    const fresh = await this.#tools.loadOwn(this.cidr);
    // A write that ended meanwhile knows better.
    if (this.block === before) this.adopt(fresh);
  }

  /**
   * Reads a block of somebody else, unless it was seen a moment ago; whoever asks meanwhile shares the answer. To be done
   * before handles are counted up for it: others write it as well, and one that has become full costs each of them a
   * handle's write more. Errors: IPAMError `BrokenObject`, `Datastore`.
   */
  async look(): Promise<void> {
    if (this.isFresh) return;
    const read = async (): Promise<void> => {
      const before = this.block;
      const fresh = await this.#tools.store.get("block", blockName(this.cidr));
      // As above.
      if (this.block === before) this.adopt(fresh);
    };
    this.#look ??= read().finally(() => {
      this.#look = undefined;
    });
    await this.#look;
  }

  /** Nobody waits for it, nobody is about to, and it remembers nothing that matters: it may be forgotten. */
  get isIdle(): boolean {
    const isAtWork = this.#isRunning || this.#queue.length > 0 || this.#look !== undefined || this.reserved > 0;
    return !isAtWork && this.cooling.count(this.#tools.clock.nowMs(), undefined) === 0;
  }

  #start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    // Never rejects: every error goes to the waiters.
    void this.#run();
  }

  async #run(): Promise<void> {
    for (;;) {
      await this.#tools.turn();
      if (this.#isExpecting) await this.#gather();
      const batch = this.#queue.splice(0);
      const task = this.#idleTask;
      if (batch.length > 0) await this.#commit(batch);
      else if (task !== undefined) {
        this.#idleTask = undefined;
        await task();
      } else break;
    }
    this.#isRunning = false;
  }

  /** Somebody waits for a write, and so many are to come that they are worth waiting for. */
  get #isExpecting(): boolean {
    const here = this.#queue.reduce((sum, { op }) => sum + (op.kind === "assign" ? op.count : 0), 0);
    return this.#queue.length > 0 && here < (this.reserved - here) * HERE_PER_COMING;
  }

  #noteArrival(): void {
    if (!this.#isExpecting) this.#allHere?.();
  }

  async #gather(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = new AbortController();
    this.#allHere = resolve;
    await Promise.race([promise, this.#tools.clock.sleep(GATHER_LIMIT_MS, timer.signal).catch(() => {})]);
    this.#allHere = undefined;
    // Without a reason, abort makes an error with its stack.
    timer.abort("over");
  }

  async #commit(batch: readonly Waiter[]): Promise<void> {
    let waiters = batch;
    try {
      for await (const _ of attempts(this.#tools, `write block ${formatCIDR(this.cidr)}`)) {
        waiters = dropAborted(waiters);
        if (waiters.length === 0) return;
        const block = this.block ?? (await this.#read(waiters));
        const plan = planBatch(block?.spec, waiters, this.#rules());
        const outcome = await this.#write(block, plan);
        if (outcome.kind === "ok") return this.#finish(waiters, plan, "object" in outcome ? outcome.object : undefined);
        this.forget();
        if (outcome.kind === "unknown") rememberTries(waiters, plan);
        if (outcome.kind === "refused") return await this.#onRefused(waiters, outcome);
      }
    } catch (error) {
      const isBroken = error instanceof IPAMError && error.code === "BrokenObject";
      if (isBroken) {
        this.adopt(undefined);
        this.#tools.onBroken(this.cidr, error);
      }
      for (const waiter of waiters) {
        // Nothing can be assigned from a damaged block: requests go to another one, unless this one may have been taken.
        const mayMove = isBroken && waiter.op.kind === "assign" && waiter.tried.length === 0;
        waiter.settle(mayMove ? { kind: "notOurs" } : this.#errorFor(waiter, error));
      }
    }
  }

  #rules(): BatchRules {
    const { clock, cooldown, cooldownMs, reservations } = this.#tools;
    const nowMs = clock.nowMs();
    const isReserved = reservations().of(this.cidr);
    const isCooling = (ordinal: number): boolean => this.cooling.has(ordinal, nowMs);
    return { nowMs, ...cooldown(), ...(isReserved && { isReserved }), ...(cooldownMs > 0 && { isCooling }) };
  }

  async #read(waiters: readonly Waiter[]): Promise<IPAMBlock | undefined> {
    // Who borrows does not mind the owner.
    const isForAssign = waiters.some(({ op }) => op.kind === "assign" && op.affinity !== undefined);
    const own = isForAssign ? await this.#tools.loadOwn(this.cidr) : undefined;
    const block = own ?? (await this.#tools.store.get("block", blockName(this.cidr)));
    this.adopt(block);
    return block;
  }

  async #write(
    block: IPAMBlock | undefined,
    plan: BatchPlan,
  ): Promise<UpdateOutcome<IPAMBlock> | DeleteOutcome | { readonly kind: "ok"; readonly object: undefined }> {
    if (block === undefined || plan.block === undefined) return { kind: "ok", object: undefined };
    if (plan.write === "none") return { kind: "ok", object: block };
    // Empty and without an owner: the tombstone holds the block as it was, so the deletion is the compare-and-swap.
    if (plan.write === "delete") return await this.#tools.store.delete("block", block);
    return await this.#tools.store.update("block", { ...block, spec: plan.block });
  }

  /** In one go: the new block and the reservations that it makes good must never be seen apart. */
  #finish(waiters: readonly Waiter[], plan: BatchPlan, block: IPAMBlock | undefined): void {
    if (plan.write === "none") this.adopt(block);
    else this.adoptWritten(block);
    for (const [i, waiter] of waiters.entries()) {
      const result = plan.results[i];
      if (result !== undefined) waiter.settle(result);
    }
  }

  async #onRefused(waiters: readonly Waiter[], refused: Refused): Promise<void> {
    if (waiters.length > 1 && !refused.isBusy) {
      for (const waiter of waiters) await this.#commit([waiter]);
      return;
    }
    const error = refusedError(`write block ${formatCIDR(this.cidr)}`, refused);
    for (const waiter of waiters) waiter.settle(this.#errorFor(waiter, error));
  }

  #errorFor(waiter: Waiter, error: unknown): Error {
    const cause = error instanceof Error ? error : new Error(String(error));
    if (waiter.op.kind !== "assign" || waiter.tried.length === 0) return cause;
    const what = `Cannot tell whether block ${formatCIDR(this.cidr)} took an address for handle ${waiter.op.handleID}`;
    const step = "release the handle when the API server answers again";
    return new IPAMError("Datastore", `${what}; ${step}`, { cause, mayHoldAddresses: true });
  }
}

/** Waiters that hung up before anything was written for them leave; the others cannot be let go. */
function dropAborted(waiters: readonly Waiter[]): readonly Waiter[] {
  return waiters.filter((waiter) => {
    if (!waiter.signal?.aborted || waiter.tried.length > 0 || waiter.op.kind !== "assign") return true;
    const reason: unknown = waiter.signal.reason;
    waiter.settle(reason instanceof Error ? reason : new Error(String(reason)));
    return false;
  });
}

function rememberTries(waiters: readonly Waiter[], plan: BatchPlan): void {
  for (const [i, waiter] of waiters.entries()) {
    const result = plan.results[i];
    if (result?.kind === "assigned") waiter.tried.push(result);
  }
}

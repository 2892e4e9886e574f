// SPDX-License-Identifier: Apache-2.0

/** One turn with a key; dispose it to let the next one in. */
export interface Turn extends Disposable {
  /** Aborts with the caller's signal, and for work that yields when somebody cancels it: stop, undo, dispose. */
  readonly signal: AbortSignal;
}

/** How to wait for a key. */
export interface AcquireOptions {
  /** Gives up the wait, and is part of the turn's own signal. */
  readonly signal?: AbortSignal;
  /** This work can be cancelled by those who come after it. */
  readonly yields?: boolean;
  /** Cancels the work that yields and is before us, for this reason; made only then, since an error costs its stack. */
  readonly cancel?: () => Error;
}

const NEVER: AbortSignal = new AbortController().signal;

/** One who has the key or waits for it. */
class Waiter {
  /** Absent: the work does not yield. */
  readonly controller: AbortController | undefined;
  readonly signal: AbortSignal;
  readonly #outer: AbortSignal | undefined;
  #start: (() => void) | undefined;

  constructor(outer: AbortSignal | undefined, yields: boolean) {
    this.controller = yields ? new AbortController() : undefined;
    this.signal = this.controller?.signal ?? outer ?? NEVER;
    this.#outer = outer;
    // By hand: AbortSignal.any keeps weak references and registers finalizers, which an ADD would pay for twice.
    if (yields && outer?.aborted) this.controller?.abort(outer.reason);
    else if (yields) outer?.addEventListener("abort", this.#onOuterAbort, { once: true });
  }

  readonly #onOuterAbort = (): void => this.controller?.abort(this.#outer?.reason);

  /** Resolves when `start` is called or the signal aborts. */
  async turn(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#start = resolve;
    if (this.signal.aborted) return;
    this.signal.addEventListener("abort", this.start, { once: true });
    await promise;
    this.signal.removeEventListener("abort", this.start);
  }

  readonly start = (): void => this.#start?.();

  close(): void {
    this.#outer?.removeEventListener("abort", this.#onOuterAbort);
  }
}

/**
 * Locks by key, in order of arrival, inside one process: no lock outlives a crash.
 *
 * Whoever acquires may say why the work before it has become useless. That cancels those before it that yield, holder
 * or waiting, and the newcomer still waits for their undo.
 */
export class KeyedLocks {
  /** First is the holder, the others wait in order. A key without a holder is absent. */
  readonly #queues = new Map<string, Waiter[]>();

  isHeld(key: string): boolean {
    return this.#queues.has(key);
  }

  /** How many keys somebody has or waits for. */
  get size(): number {
    return this.#queues.size;
  }

  /** Keys that somebody has or waits for. */
  keys(): IterableIterator<string> {
    return this.#queues.keys();
  }

  /** Waits for the key's turn. @throws the signal's or the canceller's reason when it comes before the turn */
  async acquire(key: string, { signal, yields = false, cancel }: AcquireOptions = {}): Promise<Turn> {
    const queue = this.#queues.get(key) ?? [];
    if (cancel !== undefined) for (const before of queue) before.controller?.abort(cancel());
    this.#queues.set(key, queue);
    const waiter = new Waiter(signal, yields);
    queue.push(waiter);
    if (queue[0] !== waiter) await waiter.turn();
    if (waiter.signal.aborted) {
      this.#leave(key, queue, waiter);
      throw waiter.signal.reason;
    }
    return { signal: waiter.signal, [Symbol.dispose]: () => this.#leave(key, queue, waiter) };
  }

  /** Takes the key only if nobody has it or waits for it. */
  tryAcquire(key: string): Promise<Turn> | undefined {
    return this.isHeld(key) ? undefined : this.acquire(key);
  }

  #leave(key: string, queue: Waiter[], waiter: Waiter): void {
    const at = queue.indexOf(waiter);
    if (at < 0) return;
    waiter.close();
    queue.splice(at, 1);
    if (queue.length === 0) this.#queues.delete(key);
    else if (at === 0) queue[0]?.start();
  }
}

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
  /** Cancels the work that yields and is before us, for this reason. */
  readonly cancel?: Error;
}

interface Waiter {
  /** Absent: the work does not yield. */
  readonly controller?: AbortController;
  readonly start: () => void;
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

  /** Keys that somebody has or waits for. */
  keys(): IterableIterator<string> {
    return this.#queues.keys();
  }

  /** Waits for the key's turn. @throws the signal's or the canceller's reason when it comes before the turn */
  async acquire(key: string, { signal, yields = false, cancel }: AcquireOptions = {}): Promise<Turn> {
    const queue = this.#queues.get(key) ?? [];
    if (cancel !== undefined) for (const before of queue) before.controller?.abort(cancel);
    this.#queues.set(key, queue);
    const controller = yields ? new AbortController() : undefined;
    const both = AbortSignal.any([signal, controller?.signal].filter((one) => one !== undefined));
    const { promise: started, resolve: start } = Promise.withResolvers<void>();
    const waiter: Waiter = { start, ...(controller && { controller }) };
    queue.push(waiter);
    if (queue[0] !== waiter) {
      const onAbort = () => start();
      both.addEventListener("abort", onAbort, { once: true });
      await started;
      both.removeEventListener("abort", onAbort);
    }
    if (both.aborted) {
      this.#leave(key, queue, waiter);
      throw both.reason;
    }
    return { signal: both, [Symbol.dispose]: () => this.#leave(key, queue, waiter) };
  }

  /** Takes the key only if nobody has it or waits for it. */
  tryAcquire(key: string): Promise<Turn> | undefined {
    return this.isHeld(key) ? undefined : this.acquire(key);
  }

  #leave(key: string, queue: Waiter[], waiter: Waiter): void {
    const at = queue.indexOf(waiter);
    if (at < 0) return;
    queue.splice(at, 1);
    if (queue.length === 0) this.#queues.delete(key);
    else if (at === 0) queue[0]?.start();
  }
}

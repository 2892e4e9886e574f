// SPDX-License-Identifier: Apache-2.0
import type { IPAMStore } from "../ipam/ports.ts";
import type { Clock } from "../lib/clock.ts";

/** Waits for the next free place; rejects with the signal's reason. */
export type Pace = (signal: AbortSignal) => Promise<void>;

/** At most so many calls a second, with bursts of at most a tenth of a second's worth. */
export function createPace(clock: Clock, perSecond: number): Pace {
  const gapMs = 1000 / perSecond;
  let nextMs = 0;
  return async (signal) => {
    signal.throwIfAborted();
    const nowMs = clock.nowMs();
    nextMs = Math.max(nextMs, nowMs - 100) + gapMs;
    const waitMs = nextMs - nowMs;
    if (waitMs > 0) await clock.sleep(waitMs, signal);
  };
}

/**
 * The same store at a limited pace, and closed to writes once the signal has aborted: a collector that may not lead any
 * more must not begin another write.
 */
export function pacedStore(store: IPAMStore, pace: Pace, signal: AbortSignal): IPAMStore {
  const paced = async <T>(call: () => Promise<T>): Promise<T> => {
    await pace(signal);
    return await call();
  };
  return {
    get: (kind, name) => paced(() => store.get(kind, name)),
    pages: async function* (kind) {
      await pace(signal);
      for await (const page of store.pages(kind)) {
        yield page;
        await pace(signal);
      }
    },
    create: (kind, object) => paced(() => store.create(kind, object)),
    update: (kind, object) => paced(() => store.update(kind, object)),
    delete: (kind, object) => paced(() => store.delete(kind, object)),
    updateBlockStatus: (block, status) => paced(() => store.updateBlockStatus(block, status)),
  };
}

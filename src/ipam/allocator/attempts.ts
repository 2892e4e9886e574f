// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { InvariantError } from "../../lib/errors.ts";
import { backoffMs } from "../../lib/retry.ts";
import { IPAMError } from "../errors.ts";
import type { Refused } from "../ports.ts";

/** Every compare-and-swap loop gives up after this many rounds, as Calico's do. Source: calico-interop 2. */
const MAX_ATTEMPTS = 100;
const BACKOFF = { baseMs: 2, maxMs: 200 } as const;

/** What every loop of the allocator needs. */
export interface LoopTools {
  readonly clock: Clock;
  /** From 0 (included) to 1. */
  readonly random: () => number;
}

/**
 * Counts the rounds of one loop, and waits before all but the first.
 *
 * It yields round numbers from 1. Errors: IPAMError `Contention` when they are used up.
 */
export async function* attempts(tools: LoopTools, what: string): AsyncGenerator<number, never, undefined> {
  for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
    if (attempt > 1) await tools.clock.sleep(backoffMs(BACKOFF, attempt - 1, tools.random()));
    yield attempt;
  }
  const step = "look for a second agent or controller that writes the same objects over and over";
  throw new IPAMError("Contention", `Cannot ${what}: ${MAX_ATTEMPTS} attempts lost to other writers; ${step}`);
}

/** For the end of a loop that its generator never leaves without a result. */
export function unreachable(): never {
  throw new InvariantError("The attempts of a loop ended without a result");
}

/** A refused write, told as an error of the allocation that needed it. */
export function refusedError(what: string, refused: Refused): IPAMError {
  const step = refused.isBusy ? "try again later" : "check the rights of this account and the installed CRDs";
  return new IPAMError("Datastore", `Cannot ${what}: the API server refused; ${step}`, { cause: refused.error });
}

/** Waits for all, also when one fails, so that nothing goes on behind the caller's back; then the first error. */
export async function allOf(promises: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(promises);
  for (const result of results) if (result.status === "rejected") throw result.reason;
}

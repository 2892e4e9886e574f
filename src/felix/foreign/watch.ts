// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { describeError } from "../../lib/errors.ts";
import { ApplyLoop } from "../apply-loop.ts";
import type { Finding } from "../calc/findings.ts";
import type { Logger } from "../ports.ts";
import { judgeForeign } from "./judge.ts";
import type { ForeignPort, OwnNeeds } from "./ports.ts";

export interface ForeignWatchOptions {
  readonly port: Pick<ForeignPort, "read">;
  /** Undefined while it is not known yet. */
  readonly needs: () => OwnNeeds | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  /** Between two looks. Units: milliseconds. @default 300_000 */
  readonly everyMs?: number;
}

/** When to ask again while nothing is known of the cluster. Units: milliseconds. */
const UNKNOWN_AGAIN_MS = 5000;
/** While there is a finding: who mends it wants to see it gone. Units: milliseconds. */
const FOUND_AGAIN_MS = 30_000;

/** Looks now and then at what other programs do to the node's network. */
export class ForeignWatch {
  readonly #loop: ApplyLoop;
  #findings: readonly Finding[] = [];

  constructor({ port, needs, clock, random, log, everyMs = 300_000 }: ForeignWatchOptions) {
    this.#loop = new ApplyLoop({
      clock,
      random,
      turn: async () => {
        const own = needs();
        if (own === undefined) return UNKNOWN_AGAIN_MS;
        this.#findings = judgeForeign(await port.read(), own);
        return this.#findings.length === 0 ? everyMs : Math.min(FOUND_AGAIN_MS, everyMs);
      },
      onError: (error, retryInMs) =>
        log.debug({ err: describeError(error), retryInMs: Math.round(retryInMs) }, "cannot look at other programs"),
    });
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** As of the last look. */
  findings(): readonly Finding[] {
    return this.#findings;
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { describeError } from "../../lib/errors.ts";
import { formatIP } from "../../net/ip.ts";
import { ApplyLoop } from "../apply-loop.ts";
import type { Finding } from "../calc/findings.ts";
import type { Check, Logger } from "../ports.ts";
import type { SelfTestPort, TestPair } from "./ports.ts";

export interface SelfTestOptions {
  readonly port: SelfTestPort;
  /** Whether routes and packet filter are programmed; before, nothing is sent. */
  readonly isTime: () => boolean;
  /** One for each family. */
  readonly pairs: () => readonly TestPair[];
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** Between two questions whether it is time. Units: milliseconds. */
const POLL_MS = 100;
const BACKOFF = { baseMs: 1000, maxMs: 60_000 };

/**
 * Proves at the start that this node forwards a packet from pod to pod, in each family. Repeated until it has succeeded
 * once; what breaks later has checks and findings of its own.
 */
export class SelfTest {
  readonly #loop: ApplyLoop;
  #outcome: Check = { ok: false, detail: "not made yet" };
  #hasFailed = false;

  constructor({ port, isTime, pairs, clock, random, log }: SelfTestOptions) {
    this.#loop = new ApplyLoop({
      clock,
      random,
      backoff: BACKOFF,
      turn: async () => {
        if (!isTime()) return POLL_MS;
        const startedMs = clock.nowMs();
        for (const pair of pairs()) await port.exchange(pair);
        const between = pairs().map((pair) => pair.map(formatIP).join(" and "));
        this.#hasFailed = false;
        this.#outcome = { ok: true, detail: `a packet came back from ${between.join(", from ")}` };
        log.info(
          { between, durationMs: clock.nowMs() - startedMs },
          "self-test passed: pods of this node reach each other",
        );
        return undefined;
      },
      onError: (error, retryInMs) => {
        const detail = describeError(error);
        // Once for each reason: the finding goes on to tell of it.
        if (!this.#hasFailed || this.#outcome.detail !== detail)
          log.warn({ err: detail, retryInMs: Math.round(retryInMs) }, "self-test failed; will retry");
        this.#hasFailed = true;
        this.#outcome = { ok: false, detail };
      },
    });
  }

  get check(): Check {
    return this.#outcome;
  }

  findings(): readonly Finding[] {
    if (!this.#hasFailed) return [];
    const message =
      `Pods of this node do not reach each other: ${this.#outcome.detail}; the node is not ready. Look for rules of other ` +
      "programs (nft list ruleset); --self-test off does without the test";
    return [{ code: "SelfTestFailed", subject: "node", message }];
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import { type Clock, wallText } from "../../lib/clock.ts";
import { describeError } from "../../lib/errors.ts";
import { backoffMs } from "../../lib/retry.ts";
import { type NodeClaims, planNodeStatus, type ReplacedAddress, replacedAddresses } from "../calc/node-status.ts";
import type { Logger } from "../ports.ts";
import type { NodeWriter } from "./node-writer.ts";
import { RepeatLimit } from "./repeat-limit.ts";

const BACKOFF = { baseMs: 500, maxMs: 60_000 };

/**
 * Keeps what the node's object says of it true, in the background: nothing ever waits for it, and every failure is
 * retried with a fresh read (a conflict is the commonest: kubelets write the same object).
 */
export class NodeStatusDriver {
  readonly #writer: NodeWriter;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  #claims: NodeClaims | undefined;
  readonly #limit = new RepeatLimit();
  #written = "";
  #writing: Promise<void> | undefined;

  constructor(options: { writer: NodeWriter; clock: Clock; random: () => number; log: Logger }) {
    this.#writer = options.writer;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#log = options.log;
  }

  /** Writes when the node, as an informer knows it, does not say the claims yet. */
  check(node: Node, claims: NodeClaims): void {
    this.#claims = claims;
    if (this.#writing !== undefined || planNodeStatus(node, claims, "") === undefined) return;
    const waitMs = this.#written === JSON.stringify(claims) ? this.#limit.waitMs(this.#clock.nowMs()) : 0;
    this.#writing = this.#write(waitMs).finally(() => {
      this.#writing = undefined;
    });
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#writing;
  }

  async #write(waitMs: number): Promise<void> {
    const { signal } = this.#stop;
    if (waitMs > 0) await this.#clock.sleep(waitMs, signal).catch(() => {});
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        const claims = this.#claims;
        if (claims === undefined) return;
        let replaced: readonly ReplacedAddress[] = [];
        const isWritten = await this.#writer.edit((node) => {
          replaced = replacedAddresses(node, claims);
          return planNodeStatus(node, claims, wallText(this.#clock));
        });
        if (!isWritten) return;
        this.#written = JSON.stringify(claims);
        this.#limit.wrote(this.#clock.nowMs());
        for (const { annotation, before, after, variable } of replaced)
          this.#log.warn(
            { annotation, before, after },
            `node address changed from ${before} to ${after}: other nodes follow; set ${variable}=${before} to keep it`,
          );
        this.#log.info({ ...claims }, "node object updated");
        return;
      } catch (error) {
        const waitMs = backoffMs(BACKOFF, attempt, this.#random());
        // The first failure is nearly always a conflict, and means nothing.
        const level = attempt === 1 ? "debug" : "warn";
        this.#log[level](
          { err: describeError(error), attempt, retryInMs: Math.round(waitMs) },
          "node object not updated",
        );
        await this.#clock.sleep(waitMs, signal).catch(() => {});
      }
    }
  }
}

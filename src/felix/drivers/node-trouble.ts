// SPDX-License-Identifier: Apache-2.0
import { type Clock, wallText } from "../../lib/clock.ts";
import { describeError } from "../../lib/errors.ts";
import { ApplyLoop } from "../apply-loop.ts";
import type { Finding } from "../calc/findings.ts";
import { type NodeProblem, planDegraded } from "../calc/node-status.ts";
import type { Check, Logger } from "../ports.ts";
import type { NodeWriter } from "./node-writer.ts";
import { RepeatLimit } from "./repeat-limit.ts";

export interface NodeTroubleOptions {
  /** By name: what the agent's readiness is made of. */
  readonly checks: () => Readonly<Record<string, Check>>;
  /** What keeps pods from getting this network although the agent is ready. */
  readonly findings: () => readonly Finding[];
  readonly writer: Pick<NodeWriter, "edit">;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** Between two looks. Units: milliseconds. */
const LOOK_MS = 2000;
/** The process is about to end, and the API server may be away. Units: milliseconds. */
const STOP_WAIT_MS = 1000;
/** Every agent that starts is not ready at first, and an API server that answers again finds all of them so. Units: milliseconds. */
const LASTING_MS = 10_000;

/**
 * Tells in the Node's condition NetworkDegraded what this agent lacks, so that the cluster's administrator, and the operator,
 * hear of it where they look: a probe that fails says only that it did.
 *
 * Details change from look to look ("failing for 31 s"), so the condition is written when another check fails than before.
 */
export class NodeTrouble {
  readonly #options: NodeTroubleOptions;
  readonly #loop: ApplyLoop;
  readonly #limit = new RepeatLimit();
  /** What fails now, and since when. */
  #failing = "";
  #sinceMs = 0;
  /** What the Node says; undefined: another agent may have written it. */
  #told: string | undefined;

  constructor(options: NodeTroubleOptions) {
    this.#options = options;
    const { clock, random, log } = options;
    this.#loop = new ApplyLoop({
      clock,
      random,
      backoff: { baseMs: 1000, maxMs: 60_000 },
      turn: async () => await this.#turn(),
      onError: (error, retryInMs) =>
        log.debug({ err: describeError(error), retryInMs: Math.round(retryInMs) }, "NetworkDegraded not written"),
    });
  }

  start(): void {
    this.#sinceMs = this.#options.clock.nowMs();
    this.#loop.start();
  }

  /** Takes back what it said, if the API server answers soon: without an agent nobody would. */
  async stop(): Promise<void> {
    const { clock, writer, log } = this.#options;
    const ended = this.#loop.stop().then(async () => {
      if (this.#told) await writer.edit((node) => planDegraded(node, undefined, wallText(clock)));
    });
    const late = clock.sleep(STOP_WAIT_MS).then(() => {
      throw new Error(`no answer within ${STOP_WAIT_MS / 1000} s`);
    });
    await Promise.race([ended, late]).catch((error: unknown) => {
      log.warn({ err: describeError(error) }, "the node's condition NetworkDegraded stays");
    });
  }

  async #turn(): Promise<number> {
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    const [failing, problem] = this.#look();
    if (failing !== this.#failing) {
      this.#failing = failing;
      this.#sinceMs = nowMs;
    }
    if (failing === this.#told) return LOOK_MS;
    // What is well again is told at once.
    const waitMs = Math.max(failing === "" ? 0 : this.#sinceMs + LASTING_MS - nowMs, this.#limit.waitMs(nowMs));
    if (waitMs > 0) return Math.min(LOOK_MS, waitMs);
    const { writer } = this.#options;
    if (await writer.edit((node) => planDegraded(node, problem, wallText(clock)))) this.#limit.wrote(nowMs);
    this.#told = failing;
    return LOOK_MS;
  }

  #look(): readonly [failing: string, problem: NodeProblem | undefined] {
    const { checks, findings } = this.#options;
    const failed = Object.entries(checks()).filter(([, { ok }]) => !ok);
    const found = findings();
    const failing = [...failed.map(([name]) => name), ...found.map(({ code, subject }) => `${code} ${subject}`)].join();
    if (failing === "") return ["", undefined];
    const texts = [...failed.map(([name, { detail }]) => `${name}: ${detail}`), ...found.map(({ message }) => message)];
    const reason = failed.length > 0 ? "AgentNotReady" : (found[0]?.code ?? "");
    return [failing, { reason, message: texts.join("; ") }];
  }
}

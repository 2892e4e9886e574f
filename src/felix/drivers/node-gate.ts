// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import { type Clock, wallText } from "../../lib/clock.ts";
import { describeError } from "../../lib/errors.ts";
import { ApplyLoop } from "../apply-loop.ts";
import { planCondition } from "../calc/node-status.ts";
import type { Logger, Source } from "../ports.ts";
import type { NodeWriter } from "./node-writer.ts";
import { RepeatLimit } from "./repeat-limit.ts";

export interface NodeGateOptions {
  readonly nodeName: string;
  readonly isReady: () => boolean;
  readonly nodes: Pick<Source<Node>, "list" | "onChange">;
  readonly writer: NodeWriter;
  /** Key of the taint with which a node starts, so that no pod comes before its network; empty: there is none. */
  readonly taint: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** Between two questions whether the agent is ready. Units: milliseconds. */
const POLL_MS = 100;
/** The process is about to end, and the API server may be away. Units: milliseconds. */
const CLOSE_WAIT_MS = 1000;

/**
 * Lets pods onto the node once the agent is ready: condition NetworkUnavailable=False, and the start-up taint gone. When the
 * agent stops, the condition keeps new pods away until the next one is ready. An agent that was ready once, and is not for
 * a while, changes neither: pods that run would gain nothing.
 */
export class NodeGate {
  readonly #options: NodeGateOptions;
  readonly #loop: ApplyLoop;
  #isOpen = false;
  readonly #conditionLimit = new RepeatLimit();
  readonly #taintLimit = new RepeatLimit();
  #stopFollowing: () => void = () => {};

  constructor(options: NodeGateOptions) {
    this.#options = options;
    const { clock, random, log } = options;
    let failures = 0;
    this.#loop = new ApplyLoop({
      clock,
      random,
      backoff: { baseMs: 500, maxMs: 60_000 },
      turn: async () => {
        const againInMs = await this.#turn();
        failures = 0;
        return againInMs;
      },
      onError: (error, retryInMs) => {
        // The first failure is nearly always a conflict, and means nothing.
        const level = failures++ === 0 ? "debug" : "warn";
        log[level](
          { err: describeError(error), retryInMs: Math.round(retryInMs) },
          "node not opened for pods; will retry",
        );
      },
    });
  }

  start(): void {
    const { nodes, nodeName } = this.#options;
    this.#stopFollowing = nodes.onChange(({ key }) => {
      if (key === nodeName) this.#loop.wake();
    });
    this.#loop.start();
  }

  /** Closes the node, if the API server answers soon. */
  async stop(): Promise<void> {
    const { clock, log } = this.#options;
    this.#stopFollowing();
    const late = clock.sleep(CLOSE_WAIT_MS).then(() => {
      throw new Error(`no answer within ${CLOSE_WAIT_MS / 1000} s`);
    });
    await Promise.race([this.#close(), late]).catch((error: unknown) => {
      log.warn({ err: describeError(error) }, "the node's condition still says that its network is available");
    });
  }

  async #close(): Promise<void> {
    await this.#loop.stop();
    if (this.#isOpen)
      await this.#options.writer.edit((node) => planCondition(node, false, wallText(this.#options.clock)));
  }

  async #turn(): Promise<number | undefined> {
    const { isReady, nodes, nodeName, taint, writer } = this.#options;
    if (!this.#isOpen && !isReady()) return POLL_MS;
    this.#isOpen = true;
    const node = [...nodes.list()].find(({ metadata }) => metadata.name === nodeName);
    if (node === undefined) return undefined;
    // The condition first: without the taint the scheduler goes by it.
    const isClosed = planCondition(node, true, "") !== undefined;
    const conditionInMs = await this.#change("condition", isClosed, this.#conditionLimit, () =>
      writer.edit((now) => planCondition(now, true, wallText(this.#options.clock))),
    );
    const hasTaint = taint !== "" && (node.spec?.taints ?? []).some(({ key }) => key === taint);
    const taintInMs = await this.#change(`taint ${taint}`, hasTaint, this.#taintLimit, () => writer.removeTaint(taint));
    const waits = [conditionInMs, taintInMs].filter((ms) => ms !== undefined);
    return waits.length === 0 ? undefined : Math.min(...waits);
  }

  /** Returns when to try again, if it is too soon. Units: milliseconds. */
  async #change(
    what: string,
    isNeeded: boolean,
    limit: RepeatLimit,
    write: () => Promise<boolean>,
  ): Promise<number | undefined> {
    if (!isNeeded) return undefined;
    const { clock, log } = this.#options;
    const waitMs = limit.waitMs(clock.nowMs());
    if (waitMs > 0) return waitMs;
    if (!(await write())) return undefined;
    limit.wrote(clock.nowMs());
    log.info({ changed: what }, "node opened for pods");
    return undefined;
  }
}

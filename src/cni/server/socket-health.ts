// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { describeError } from "../../lib/errors.ts";

export interface SocketHealthOptions {
  readonly socketPath: string;
  /** Rejects with the reason when nobody answers on the socket. */
  readonly ask: () => Promise<void>;
  readonly clock: Clock;
  /** Called once, when only a restart helps: without Kubernetes nobody asks for liveness. */
  readonly onLost: (detail: string) => void;
}

/** One part of a probe. Shape: a `Check` of felix/ports. */
interface Check {
  readonly ok: boolean;
  readonly detail: string;
}

/** Units: milliseconds. */
const ASK_EVERY_MS = 5000;
/** A socket whose file is gone cannot be had again without a restart. Units: milliseconds. */
const LOST_AFTER_MS = 60_000;

/**
 * Asks this process's own server by the way that the launcher takes, for the sake of its probes: the file of the socket can be
 * deleted or replaced without the server's notice.
 */
export class SocketHealth {
  readonly #options: SocketHealthOptions;
  #problem: string | undefined = "not serving yet";
  /** Since when nobody answers; undefined also before the first answer. Units: Unix milliseconds. */
  #lostSinceMs: number | undefined;
  #isLost = false;

  constructor(options: SocketHealthOptions) {
    this.#options = options;
  }

  /** To be called once the server listens. Resolves when the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#ask();
      await this.#options.clock.sleep(ASK_EVERY_MS, signal).catch(() => {});
    }
  }

  readiness(): Check {
    const { socketPath } = this.#options;
    return { ok: this.#problem === undefined, detail: this.#problem ?? `${socketPath} answers` };
  }

  /** False: only a restart helps. */
  liveness(): Check {
    const lostForMs = this.#lostSinceMs === undefined ? 0 : this.#options.clock.nowMs() - this.#lostSinceMs;
    return { ok: lostForMs < LOST_AFTER_MS, detail: this.readiness().detail };
  }

  async #ask(): Promise<void> {
    const { ask, clock, socketPath } = this.#options;
    try {
      await ask();
      this.#problem = undefined;
      this.#lostSinceMs = undefined;
    } catch (error) {
      this.#lostSinceMs ??= clock.nowMs();
      this.#problem = `${socketPath} does not answer (${describeError(error)}), so no pod can be made`;
      if (this.#isLost || this.liveness().ok) return;
      this.#isLost = true;
      this.#options.onLost(this.#problem);
    }
  }
}

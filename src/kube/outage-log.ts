// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../lib/clock.ts";
import { UnreachableError } from "./errors.ts";

const REPEAT_MS = 60_000;

export interface OutageLogOptions {
  readonly log: Readonly<Record<"debug" | "info" | "warn", (fields: object, message: string) => void>>;
  readonly clock: Clock;
}

/**
 * Tells of an API server that does not answer: when that begins, then once a minute, and when it is over. A dozen watches
 * try it every few seconds, and each failure is the same news.
 */
export class OutageLog {
  readonly #log: OutageLogOptions["log"];
  readonly #clock: Clock;
  #sinceMs = 0;
  /** Absent while there is no outage. */
  #toldMs: number | undefined;

  constructor({ log, clock }: OutageLogOptions) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Returns false when the error is another's to tell: the server answered. */
  failed(error: unknown): boolean {
    if (!(error instanceof UnreachableError)) return false;
    const nowMs = this.#clock.nowMs();
    const isNews = this.#toldMs === undefined || nowMs - this.#toldMs >= REPEAT_MS;
    if (this.#toldMs === undefined) this.#sinceMs = nowMs;
    if (isNews) this.#toldMs = nowMs;
    const fields = { code: error.code, awayMs: nowMs - this.#sinceMs };
    this.#log[isNews ? "warn" : "debug"](fields, `${error.message}; it is tried again`);
    return true;
  }

  /** To be called when a call has an answer after others had none. */
  answered(): void {
    if (this.#toldMs === undefined) return;
    this.#toldMs = undefined;
    this.#log.info({ awayMs: this.#clock.nowMs() - this.#sinceMs }, "The API server answers again");
  }
}

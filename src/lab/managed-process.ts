// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError } from "./errors.ts";

export interface ManagedProcessOptions {
  readonly what: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Both outputs are appended to it. */
  readonly logPath: string;
}

/** A daemon of the laboratory. It gets a session of its own, so that Ctrl-C on the terminal does not reach it. */
export class ManagedProcess {
  readonly what: string;
  readonly logPath: string;
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;

  constructor(options: ManagedProcessOptions) {
    const { what, argv, env, logPath } = options;
    this.what = what;
    this.logPath = logPath;
    const log = openSync(logPath, "a");
    const [command = "", ...args] = argv;
    this.#child = spawn(command, args, { stdio: ["ignore", log, log], env: { ...env }, detached: true });
    closeSync(log);
    this.#closed = once(this.#child, "close").catch(() => {});
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null && this.#child.pid !== undefined;
  }

  /** Resolves when it has ended. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    this.#child.kill(signal);
    await this.#closed;
  }

  /** Asks every 25 ms. @throws LabError when the process ends, or the time does, before the answer is yes */
  async waitUntil(isReady: () => Promise<boolean>, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!(await isReady())) {
      if (!this.isRunning) {
        const how = this.#child.signalCode ?? `exit status ${this.#child.exitCode}`;
        throw new LabError(
          "NotStarted",
          `${this.what} ended with ${how} before it was ready; its log is ${this.logPath}`,
        );
      }
      if (performance.now() > deadline)
        throw new LabError("NotReady", `${this.what} is not ready after ${timeoutMs} ms; its log is ${this.logPath}`);
      await sleep(25);
    }
  }
}

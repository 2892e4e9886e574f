// SPDX-License-Identifier: Apache-2.0
import type { KubeClient } from "../kube/api.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { COMMANDS } from "./commands.ts";
import { runCLI } from "./run.ts";

/** The CLI on a terminal of a test. */

export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Terminal {
  readonly client: KubeClient;
  /** @default a clock of its own */
  readonly clock?: FakeClock;
  /** What a person says to a question. @default no */
  readonly answer?: boolean;
  /** Happens while the command waits. */
  readonly meanwhile?: () => Promise<unknown>;
}

/** Runs a command line such as `ipam show -o wide`. Time passes by itself. */
export async function runGingham(line: string, terminal: Terminal): Promise<Ran> {
  const { client, clock = new FakeClock(), answer = false, meanwhile } = terminal;
  let [stdout, stderr, isDone] = ["", "", false];
  const running = runCLI(line.split(" "), COMMANDS, {
    env: {},
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
    clock,
    connect: () => Promise.resolve(client),
    confirm: (question) => {
      stderr += `${question}\n`;
      return Promise.resolve(answer);
    },
  }).finally(() => {
    isDone = true;
  });
  let hasHappened = false;
  while (!isDone) {
    // Commands are imported when they are called, which takes turns of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
    if (clock.sleeping === 0) continue;
    if (!hasHappened) await meanwhile?.();
    hasHappened = true;
    await clock.advance(60_000);
  }
  return { status: await running, stdout, stderr };
}

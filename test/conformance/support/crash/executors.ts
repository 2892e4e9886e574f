// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import type { CallResult, Machine, Sandbox } from "./machine.ts";

export type Command = "ADD" | "DEL";

/** One of the two programs that execute calls, as the crash matrix needs it. */
export interface Executor {
  readonly machine: Machine;
  /** Before each call that dies: as on the node's first, where that makes a difference. */
  prepare(): Promise<void>;
  /** Calls that nothing disturbs. */
  call(command: Command, sandbox: Sandbox): Promise<CallResult>;
  /** A call during which, or soon after which, the program dies. @returns what the runtime got @throws if it lives on */
  callAndDie(command: Command, sandbox: Sandbox, at: string): Promise<CallResult>;
  /** The points that a call passes to its very end. */
  pointsOf(command: Command, sandbox: Sandbox): Promise<readonly string[]>;
  /** After the last DELs: what a busy API server made wait is the agent's to finish, or the next DEL's, as containerd sends. */
  settle(sandboxes: readonly Sandbox[]): Promise<void>;
  /** What brings the program back after a death; one that lives on is no longer to die. */
  restart(): Promise<void>;
}

/** Writes to pods and flushes come after the answer. */
const AFTER_THE_ANSWER_MS = 1000;

export function agentOn(machine: Machine): Executor {
  return {
    machine,
    prepare: async () => {},
    call: (command, sandbox) => machine.call(command, sandbox),
    async callAndDie(command, sandbox, at) {
      await machine.arm(at);
      const result = await machine.call(command, sandbox);
      const signal = await machine.agentDied();
      if (signal !== "SIGKILL" || machine.points.at(-1) !== at) {
        throw new Error(`died by ${signal} at ${machine.points.at(-1)}, want SIGKILL at ${at}`);
      }
      return result;
    },
    async pointsOf(command, sandbox) {
      await machine.arm("");
      const { exitCode, stdout } = await machine.call(command, sandbox);
      if (exitCode !== 0) throw new Error(`${command} failed: ${stdout}`);
      await sleep(AFTER_THE_ANSWER_MS);
      return machine.points;
    },
    settle: async () => {},
    restart: () => (machine.isAgentUp ? machine.arm("") : machine.startAgent()),
  };
}

export function standaloneOn(machine: Machine): Executor {
  return {
    machine,
    // Nobody claims the block in advance, so the claim has points of its own.
    prepare: () => machine.cluster.disown(machine.node),
    call: (command, sandbox) => machine.callAlone(command, sandbox),
    async callAndDie(command, sandbox, at) {
      const result = await machine.callAlone(command, sandbox, at);
      if (machine.points.at(-1) !== at) {
        throw new Error(`ended at ${machine.points.at(-1)}, want SIGKILL at ${at}`);
      }
      return result;
    },
    async pointsOf(command, sandbox) {
      const { exitCode, stdout } = await machine.callAlone(command, sandbox, "");
      if (exitCode !== 0) throw new Error(`${command} failed: ${stdout}`);
      return machine.points;
    },
    async settle(sandboxes) {
      for (const sandbox of sandboxes) if (machine.files().length > 0) await machine.callAlone("DEL", sandbox);
    },
    restart: async () => {},
  };
}

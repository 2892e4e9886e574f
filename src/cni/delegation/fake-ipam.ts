// SPDX-License-Identifier: Apache-2.0
import { MissingPluginError } from "../errors.ts";
import type { Executed, Execution, PluginRunner } from "./types.ts";

/** An IPAM plugin in memory: 10.9.0.2 and up, one for each container; the answers of its commands can be set. */
export class FakeIPAM implements PluginRunner {
  /** Address by container. */
  readonly held: Map<string, string> = new Map();
  /** What was executed, as `host-local ADD`. */
  readonly calls: string[] = [];
  readonly executions: Execution[] = [];
  /** What a command does in place of its work. */
  readonly misbehaves: Map<string, Partial<Executed> | "hang"> = new Map();
  isMissing = false;
  /** Put into the answer of ADD. */
  extra: object = {};
  #next = 2;

  async run(execution: Execution, signal: AbortSignal): Promise<Executed> {
    const { type, env, stdin } = execution;
    const command = env["CNI_COMMAND"] ?? "";
    this.calls.push(`${type} ${command}`);
    this.executions.push(execution);
    if (this.isMissing) throw new MissingPluginError(`IPAM plugin ${type} is in no folder of CNI_PATH`);
    const container = env["CNI_CONTAINERID"] ?? "";
    // A plugin that is killed has often done half of its work.
    if (command === "ADD") this.held.set(container, `10.9.0.${this.#next++}`);
    const wrong = this.misbehaves.get(command);
    if (wrong === "hang") return await forever(signal);
    if (wrong !== undefined) return { exitCode: 0, stdout: "", stderr: "", ...wrong };
    if (command === "DEL") this.held.delete(container);
    return { exitCode: 0, stdout: command === "ADD" ? this.#answer(container, stdin) : "", stderr: "" };
  }

  #answer(container: string, stdin: string): string {
    const { cniVersion } = JSON.parse(stdin) as { cniVersion: string };
    const ips = [{ address: `${this.held.get(container)}/24`, gateway: "10.9.0.1" }];
    return JSON.stringify({ cniVersion, ips, dns: {}, ...this.extra });
  }
}

function forever(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
}

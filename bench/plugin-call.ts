// SPDX-License-Identifier: Apache-2.0
import { execute } from "./spawn.ts";

/** One network configuration, and how to name what it is asked to make. */
export interface Contender {
  readonly name: string;
  /** Path of the plugin. */
  readonly plugin: string;
  readonly conf: object;
  /** CNI_ARGS of the n-th pod. */
  readonly args: (pod: number) => string;
}

export type Command = "ADD" | "CHECK" | "DEL";

export interface PluginCall {
  readonly command: Command;
  readonly contender: Contender;
  readonly pod: number;
  readonly containerID: string;
  readonly netns: string;
  /** What ADD printed; CHECK needs it. */
  readonly added?: string;
  /** Beyond what a runtime sets. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface PluginAnswer {
  /** From before the start until its output has ended and it has been waited for. Units: milliseconds. */
  readonly ms: number;
  readonly output: string;
}

/**
 * Executes a plugin as a runtime does. The price of starting a program is the same for every contender.
 *
 * @throws Error with the plugin's words when it failed
 */
export async function callPlugin(call: PluginCall): Promise<PluginAnswer> {
  const { command, contender, containerID, netns, added } = call;
  const env = {
    PATH: process.env["PATH"] ?? "",
    CNI_COMMAND: command,
    CNI_CONTAINERID: containerID,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: "/opt/cni/bin",
    CNI_ARGS: contender.args(call.pod),
    ...call.env,
  };
  const prevResult: unknown = added === undefined ? undefined : JSON.parse(added);
  const stdin = JSON.stringify({ ...contender.conf, prevResult });
  const start = performance.now();
  const { code, output } = await execute(contender.plugin, env, stdin);
  const ms = performance.now() - start;
  if (code !== 0) throw new Error(`${contender.name} ${command} exited with ${code}: ${output.trim()}`);
  return { ms, output };
}

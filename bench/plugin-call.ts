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

export interface PluginCall {
  readonly command: "ADD" | "DEL";
  readonly contender: Contender;
  readonly pod: number;
  readonly containerID: string;
  readonly netns: string;
}

/**
 * Executes a plugin as a runtime does and returns how long it took, from before the start until its output has ended and
 * it has been waited for. Units: milliseconds. The price of starting a program is the same for every contender.
 *
 * @throws Error with the plugin's words when it failed
 */
export async function callPlugin(call: PluginCall): Promise<number> {
  const { command, contender, containerID, netns } = call;
  const env = {
    PATH: process.env["PATH"] ?? "",
    CNI_COMMAND: command,
    CNI_CONTAINERID: containerID,
    CNI_NETNS: netns,
    CNI_IFNAME: "eth0",
    CNI_PATH: "/opt/cni/bin",
    CNI_ARGS: contender.args(call.pod),
  };
  const start = performance.now();
  const { code, output } = await execute(contender.plugin, env, JSON.stringify(contender.conf));
  const elapsed = performance.now() - start;
  if (code !== 0) throw new Error(`${contender.name} ${command} exited with ${code}: ${output.trim()}`);
  return elapsed;
}

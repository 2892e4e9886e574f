// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Lab } from "../lab.ts";
import { untilReady } from "../topology.ts";

export interface Endpoint {
  /** Its last line of output, once it has ended. */
  readonly result: Promise<string>;
  stop(): void;
}

/** Starts a program in a pod or on a node and waits for its first line, `ready`. */
export async function startEndpoint(lab: Lab, target: string, argv: readonly string[]): Promise<Endpoint> {
  const [command = "", ...args] = [...lab.enterArgv(target), ...argv];
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], detached: true });
  const chunks: string[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk.toString()));
  const result = once(child, "close").then(() => chunks.join("").trim().split("\n").at(-1) ?? "");
  // Nobody may be waiting any more when it ends.
  result.catch(() => {});
  await untilReady(child, `${argv.join(" ")} in ${target}`);
  return { result, stop: () => void child.kill("SIGKILL") };
}

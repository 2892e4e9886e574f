// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Rate } from "../../../src/lab/rate.ts";
import type { Machine } from "./containerd-machine.ts";
import { ROOT } from "./stack.ts";

const ENDPOINT = [process.execPath, join(ROOT, "src/main/lab.ts"), "internal", "endpoint"];
const PORT = "5201";

/** Process of a container's task. @throws Error when there is none */
export async function taskPid(machine: Machine, namespace: string, container: string): Promise<number> {
  const tasks = await machine.runOk(["ctr", "-n", namespace, "tasks", "list"]);
  const line = tasks.split("\n").find((text) => text.startsWith(container));
  const pid = Number(line?.split(/\s+/)[1]);
  if (!(pid > 0)) throw new Error(`No task of ${container} in ${namespace}: ${tasks}`);
  return pid;
}

/** Sends as much as goes from one container's network to another's, and measures what arrives after `skipMs`. */
export async function measureTransfer(
  machine: Machine,
  way: {
    readonly fromPid: number;
    readonly toPid: number;
    readonly toIP: string;
    readonly skipMs: number;
    readonly durationMs: number;
  },
): Promise<Rate> {
  const sink = machine.runOk([...enter(way.toPid), ...ENDPOINT, "sink", PORT, String(way.skipMs)]);
  // It ends by itself when the sender does; until the sender is there, a failure of it must not go unhandled.
  sink.catch(() => {});
  await Promise.race([sink, sleep(500)]);
  await machine.runOk([...enter(way.fromPid), ...ENDPOINT, "source", way.toIP, PORT, String(way.durationMs)]);
  const [, result = ""] = (await sink).trim().split("\n");
  // Written by `receive` of src/lab/endpoint.ts.
  return JSON.parse(result) as Rate;
}

function enter(pid: number): readonly string[] {
  return ["nsenter", "--target", String(pid), "--net", "--"];
}

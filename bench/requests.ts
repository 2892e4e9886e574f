// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { GINGHAM } from "./contenders.ts";
import { callPlugin, type PluginCall } from "./plugin-call.ts";
import type { BenchResult } from "./report.ts";
import { countRequests, type SeenRequest, startRequestCounter } from "./request-counter.ts";
import { createPods, type Stack } from "./stack.ts";
import { median } from "./stats.ts";

const LONE_ROUNDS = 20;
const FIRST_POD = 200_000;
/** What goes on after an answer, such as the pod's annotation, must not be counted for the next ADD. */
const QUIET_MS = 300;

/** What an ADD asks of the API server before it answers, and what a hundred at once do. */
export async function benchRequests(stack: Stack, netns: readonly string[]): Promise<BenchResult> {
  const counter = await startRequestCounter({ host: "127.0.0.1", port: 6443 });
  await createPods(stack.client, FIRST_POD, LONE_ROUNDS + 1 + netns.length);
  await stack.restartAgent(counter.url);
  const call = (pod: number, path: string | undefined): Omit<PluginCall, "command"> => ({
    contender: GINGHAM,
    pod: FIRST_POD + pod,
    containerID: randomBytes(32).toString("hex"),
    netns: path ?? "",
  });
  const lone: { reads: number; writes: number; urls: readonly string[] }[] = [];
  for (let round = 0; round <= LONE_ROUNDS; round++) {
    const one = call(round, netns[0]);
    await sleep(QUIET_MS);
    const seen = await watchRequests(counter.seen, () => callPlugin({ ...one, command: "ADD" }));
    await sleep(QUIET_MS);
    await callPlugin({ ...one, command: "DEL" });
    // The first one may have to claim a block.
    if (round > 0) lone.push({ ...countRequests(seen), urls: seen.map(({ method, url }) => `${method} ${url}`) });
  }
  const calls = netns.map((path, i) => call(LONE_ROUNDS + 1 + i, path));
  const burst = await watchRequests(counter.seen, () =>
    Promise.all(calls.map((one) => callPlugin({ ...one, command: "ADD" }))),
  );
  await Promise.all(calls.map((one) => callPlugin({ ...one, command: "DEL" })));
  await stack.restartAgent();
  counter.close();

  const writes = median(lone.map((one) => one.writes));
  const reads = median(lone.map((one) => one.reads));
  const total = countRequests(burst);
  const blockWrites = burst.filter(
    ({ method, url }) => method !== "GET" && url.includes("/ipamblocks") && !url.includes("/status"),
  ).length;
  return {
    name: "requests",
    lines: [
      `A lone ADD asks the API server for: ${lone.at(-1)?.urls.join(", ") ?? ""}`,
      `${netns.length} ADDs at once: ${total.writes} writes, ${blockWrites} of them of blocks, ${total.reads} reads`,
      ...burst.filter(({ method }) => method === "GET").map(({ url }) => `  a read: ${url}`),
    ],
    budgets: [
      {
        what: "API requests of a lone ADD",
        measured: `${writes} writes, ${reads} reads`,
        budget: "2 writes, 0 reads",
        holds: writes <= 2 && reads === 0,
      },
      {
        what: `Block writes of ${netns.length} ADDs at once`,
        measured: `${blockWrites}, and ${total.reads} reads`,
        budget: "at most 10, no reads",
        holds: blockWrites <= 10 && total.reads === 0,
      },
    ],
    figures: { lone, burst: { ...total, blockWrites } },
  };
}

/** The requests from the start of the work to its end. */
async function watchRequests(
  seen: readonly SeenRequest[],
  work: () => Promise<unknown>,
): Promise<readonly SeenRequest[]> {
  const before = seen.length;
  await work();
  return seen.slice(before);
}

// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { GINGHAM } from "./contenders.ts";
import { type Command, callPlugin, type PluginCall } from "./plugin-call.ts";
import { type BenchResult, renderTable } from "./report.ts";
import { countRequests, heardBytes, type SeenRequest, startRequestCounter } from "./request-counter.ts";
import { startSocketCounter } from "./socket-counter.ts";
import { createPods, type Stack } from "./stack.ts";
import { median, sum } from "./stats.ts";

const LONE_ROUNDS = 20;
const BURSTS = 3;
const COMMANDS: readonly Command[] = ["ADD", "CHECK", "DEL"];
const AGENT_SOCKET = "/run/gingham/agent.sock";
/** A write of a block itself, not of its status. */
const BLOCK_WRITE = /\/ipamblocks(\/[^/?]+)?(\?|$)/;
/** What the agent asks on its own timers, whatever ADDs do: its Node before a status, blocks for leaked addresses. */
const TIMED_READ = /\/nodes\/[^/?]+$|\/ipamblocks\?limit=/;
const FIRST_POD = 200_000;
/** What goes on after an answer, such as the pod's annotations, must not be counted for the next call. */
const QUIET_MS = 300;
/** Two hundred pods' annotations take a second or two. */
const QUIET_WITHIN_MS = 30_000;

/** What one command brought about. */
interface Traffic {
  readonly reads: number;
  readonly writes: number;
  readonly urls: readonly string[];
  /** Asked after the answer. */
  readonly after: readonly string[];
  /** On the agent's socket, heads and all. Units: bytes. */
  readonly asked: number;
  readonly answered: number;
  /** Bodies to and from the API server, until all is quiet; `heard` is what watches brought. Units: bytes. */
  readonly sent: number;
  readonly received: number;
  readonly heard: number;
}

/** What commands ask of the API server before and after they answer, and what a hundred at once do. */
export async function benchRequests(stack: Stack, netns: readonly string[], dir: string): Promise<BenchResult> {
  const counter = await startRequestCounter({ host: "127.0.0.1", port: 6443 });
  const socket = await startSocketCounter(join(dir, "count.sock"), AGENT_SOCKET);
  await createPods(stack.client, FIRST_POD, LONE_ROUNDS + 1 + BURSTS * netns.length);
  await stack.restartAgent(counter.url);
  const call = (pod: number, path: string | undefined): Omit<PluginCall, "command"> => ({
    contender: GINGHAM,
    pod: FIRST_POD + pod,
    containerID: randomBytes(32).toString("hex"),
    netns: path ?? "",
    env: { GINGHAM_SOCKET: socket.path },
  });
  const quiet = (): Promise<void> => becomeQuiet(counter.seen);
  const lone: Record<Command, Traffic[]> = { ADD: [], CHECK: [], DEL: [] };
  for (let round = 0; round <= LONE_ROUNDS; round++) {
    const one = call(round, netns[0]);
    let added: string | undefined;
    for (const command of COMMANDS) {
      await quiet();
      const [sizes, heard, asked, answered] = [
        bodyBytes(counter.seen),
        heardBytes(counter.seen),
        socket.bytes.asked,
        socket.bytes.answered,
      ];
      const seen = await watchRequests(counter.seen, async () => {
        const { output } = await callPlugin({ ...one, command, ...(added && { added }) });
        if (command === "ADD") added = output;
      });
      const requests = { ...countRequests(seen), urls: seen.map(shown) };
      const after = await watchRequests(counter.seen, quiet);
      const all = bodyBytes(counter.seen);
      // The first one may have to claim a block.
      if (round === 0) continue;
      lone[command].push({
        ...requests,
        after: after.map(shown),
        asked: socket.bytes.asked - asked,
        answered: socket.bytes.answered - answered,
        sent: all.sent - sizes.sent,
        received: all.received - sizes.received,
        heard: heardBytes(counter.seen) - heard,
      });
    }
  }
  const bursts: { reads: number; writes: number; blockWrites: number; readURLs: readonly string[] }[] = [];
  for (let burst = 0; burst < BURSTS; burst++) {
    const calls = netns.map((path, i) => call(LONE_ROUNDS + 1 + burst * netns.length + i, path));
    await quiet();
    const seen = await watchRequests(counter.seen, () =>
      Promise.all(calls.map((one) => callPlugin({ ...one, command: "ADD" }))),
    );
    await quiet();
    await Promise.all(calls.map((one) => callPlugin({ ...one, command: "DEL" })));
    const blockWrites = seen.filter(({ method, url }) => method !== "GET" && BLOCK_WRITE.test(url)).length;
    const readURLs = seen.filter(({ method }) => method === "GET").map(({ url }) => url);
    bursts.push({ ...countRequests(seen), blockWrites, readURLs });
  }
  await stack.restartAgent();
  counter.close();
  socket.close();

  const writes = median(lone.ADD.map((one) => one.writes));
  const reads = median(lone.ADD.map((one) => one.reads));
  // The worst of them: a budget that holds now and then does not hold.
  const blockWrites = Math.max(...bursts.map((one) => one.blockWrites));
  const burstReads = Math.max(...bursts.map((one) => one.reads));
  return {
    name: "requests",
    lines: [
      ...renderTable([TRAFFIC_HEAD, ...COMMANDS.map((command) => renderTraffic(command, lone[command]))]),
      ...COMMANDS.flatMap((command) => [
        `A lone ${command} asks the API server for: ${lone[command].at(-1)?.urls.join(", ") || "nothing"}`,
        `After its answer, and in no budget: ${lone[command].at(-1)?.after.join(", ") || "nothing"}`,
      ]),
      ...bursts.map(
        (one) =>
          `${netns.length} ADDs at once: ${one.writes} writes, ${one.blockWrites} of them of blocks, ${one.reads} reads` +
          `${one.readURLs.length === 0 ? "" : `: ${one.readURLs.join(", ")}`}`,
      ),
    ],
    budgets: [
      {
        what: "API requests of a lone ADD before its answer",
        measured: `${writes} writes, ${reads} reads`,
        budget: "2 writes, 0 reads",
        holds: writes <= 2 && reads === 0,
      },
      {
        what: `Block writes of ${netns.length} ADDs at once, worst of ${BURSTS}`,
        measured: `${blockWrites}, and ${burstReads} reads`,
        budget: "at most 10, no reads",
        holds: blockWrites <= 10 && burstReads === 0,
      },
    ],
    figures: { lone, bursts },
  };
}

const TRAFFIC_HEAD = [
  "one pod at a time, medians",
  "writes, reads before the answer",
  "agent's socket: asked, answered",
  "API bodies: sent, received",
  "heard on watches",
];

function renderTraffic(command: Command, all: readonly Traffic[]): readonly string[] {
  const mid = (key: "writes" | "reads" | "asked" | "answered" | "sent" | "received" | "heard"): number =>
    median(all.map((one) => one[key]));
  return [
    command,
    `${mid("writes")}, ${mid("reads")}`,
    `${mid("asked")} B, ${mid("answered")} B`,
    `${mid("sent")} B, ${mid("received")} B`,
    `${mid("heard")} B`,
  ];
}

/** Of all calls that are no watches. */
function bodyBytes(seen: readonly SeenRequest[]): { readonly sent: number; readonly received: number } {
  const all = sum(seen.map((one) => one.receivedBytes));
  return { sent: sum(seen.map((one) => one.sentBytes)), received: all - heardBytes(seen) };
}

function shown({ method, url }: SeenRequest): string {
  return `${method} ${url}`;
}

/** Resolves when nothing was asked for QUIET_MS. */
async function becomeQuiet(seen: readonly SeenRequest[]): Promise<void> {
  const deadline = performance.now() + QUIET_WITHIN_MS;
  for (let before = -1; before !== seen.length; ) {
    if (performance.now() > deadline) throw new Error(`Requests did not cease for ${QUIET_MS} ms`);
    before = seen.length;
    await sleep(QUIET_MS);
  }
}

/** The requests from the start of the work to its end. */
async function watchRequests(
  seen: readonly SeenRequest[],
  work: () => Promise<unknown>,
): Promise<readonly SeenRequest[]> {
  const before = seen.length;
  await work();
  return seen.slice(before).filter(({ method, url }) => method !== "GET" || !TIMED_READ.test(url));
}

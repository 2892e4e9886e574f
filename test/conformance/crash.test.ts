// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cluster } from "./support/crash/cluster.ts";
import { agentOn, type Command, type Executor, standaloneOn } from "./support/crash/executors.ts";
import { expectNothing, expectWired } from "./support/crash/expectations.ts";
import { type CallResult, Machine, type Sandbox } from "./support/crash/machine.ts";
import { Matrix, renderGoodSection } from "./support/crash/matrix.ts";
import { linesOf, linesOfPage, writePage } from "./support/crash/matrix-page.ts";

/*
 * The crash matrix: the real programs, killed by SIGKILL before and after each outside effect of ADD and DEL (and of
 * the agent's start), with the real launcher, kernel, and embedded API server. Then the runtime does one of the things
 * that kubelets do, and exactly one wiring is left, or none: no address, handle, pair, route or file besides.
 *
 * The points are found by running each command once. `npm run crash-matrix` (GINGHAM_CRASH_MATRIX=all) tries every
 * aftermath at every point, for some minutes, and writes docs/cni-crash-matrix.md; otherwise that page is compared with
 * the points.
 */

const isWhole = process.env["GINGHAM_CRASH_MATRIX"] === "all";

/** A pod with the sandbox whose call was lost, and the one that may replace it. */
interface Pod {
  readonly name: string;
  readonly old: Sandbox;
  readonly next: Sandbox;
}

async function succeed(call: Promise<CallResult>): Promise<void> {
  const { exitCode, stdout } = await call;
  expect(stdout).not.toContain('"code"');
  expect(exitCode).toBe(0);
}

/** What a runtime may do after a call was lost. Resolves to what must be wired then. */
const AFTERMATHS: Readonly<Record<string, (executor: Executor, pod: Pod) => Promise<readonly Sandbox[]>>> = {
  "ADD of the same container again": async (executor, { old }) => {
    await succeed(executor.call("ADD", old));
    return [old];
  },
  "ADD of a new container of the pod, then DEL of the old one": async (executor, { old, next }) => {
    await succeed(executor.call("ADD", next));
    await succeed(executor.call("DEL", old));
    return [next];
  },
  "DEL, then ADD of a new container": async (executor, { old, next }) => {
    await succeed(executor.call("DEL", old));
    await succeed(executor.call("ADD", next));
    return [next];
  },
  "DEL and nothing else": async (executor, { old }) => {
    await succeed(executor.call("DEL", old));
    return [];
  },
};
const NAMES = Object.keys(AFTERMATHS);

const EFFECTS: Readonly<Record<Command, readonly string[]>> = {
  ADD: ["record intent", "create ipamhandles", "update ipamblocks", "wire", "record whole", "patch pods"],
  DEL: [
    "record releasing",
    "unwire",
    "update ipamblocks",
    "delete ipamhandles",
    "record removed",
    "flush conntrack",
    "patch pods",
  ],
};

let cluster: Cluster;
let agents: Machine;
let alone: Machine;
beforeAll(async () => {
  if (!isWhole) {
    process.stderr.write(
      "crash.test.ts: every point with every aftermath for the agent's ADD; every third point with one aftermath in " +
        "turn otherwise. npm run crash-matrix runs the whole matrix, for some minutes\n",
    );
  }
  cluster = await Cluster.start(["agent", "alone"]);
  agents = await Machine.start(cluster, "agent");
  alone = await Machine.start(cluster, "alone");
  await agents.startAgent();
  await cluster.claimed("agent");
});
afterAll(async () => {
  if (isWhole) writePage(matrices.sort((a, b) => a.title.localeCompare(b.title)));
  for (const machine of [agents, alone]) await machine?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

const matrices: Matrix[] = [];
let pods = 0;

async function withPod(machine: Machine, use: (pod: Pod) => Promise<void>): Promise<void> {
  const name = `${machine.node}-${++pods}`;
  await machine.cluster.createPod(name, machine.node);
  const pod = { name, old: machine.addSandbox(`${name}-old`, name), next: machine.addSandbox(`${name}-new`, name) };
  try {
    await use(pod);
  } finally {
    for (const sandbox of [pod.old, pod.next]) machine.removeSandbox(sandbox);
  }
}

/** To the end of what it does in the background. */
async function addAnnotated(executor: Executor, pod: string, sandbox: Sandbox): Promise<void> {
  await succeed(executor.call("ADD", sandbox));
  await cluster.annotated(pod);
}

/** One cell of the matrix. */
async function crash(executor: Executor, command: Command, at: string, after: string): Promise<void> {
  const { machine } = executor;
  await withPod(machine, async (pod) => {
    if (command === "DEL") await addAnnotated(executor, pod.name, pod.old);
    else await executor.prepare();
    try {
      await executor.callAndDie(command, pod.old, at);
      await executor.restart();
      const wired = (await AFTERMATHS[after]?.(executor, pod)) ?? [];
      await expectWired(machine, wired);
      expect((await cluster.claimsOf(machine.node)).claims.length).toBeLessThanOrEqual(1);
      for (const sandbox of wired) await succeed(executor.call("DEL", sandbox));
      await executor.settle([pod.old, pod.next]);
      await expectNothing(machine);
    } catch (error) {
      // So that the next cell fails for reasons of its own only.
      await executor.restart();
      for (const sandbox of [pod.old, pod.next]) await executor.call("DEL", sandbox);
      throw error;
    }
  });
}

/** The points of a command, once it is known that none is missing. */
async function pointsOf(executor: Executor, command: Command): Promise<readonly string[]> {
  let points: readonly string[] = [];
  await withPod(executor.machine, async ({ name, old }) => {
    if (command === "DEL") await addAnnotated(executor, name, old);
    points = await executor.pointsOf(command, old);
    if (command === "ADD") await succeed(executor.call("DEL", old));
  });
  expect(points).toEqual(
    expect.arrayContaining(EFFECTS[command].flatMap((name) => [`before ${name}`, `after ${name}`])),
  );
  return points;
}

async function runMatrix(executor: Executor, name: string, command: Command): Promise<void> {
  const matrix = new Matrix(`${name}, ${command}`, NAMES);
  const isThorough = isWhole || (command === "ADD" && name === "agent");
  const points = await pointsOf(executor, command);
  // What is after one effect is before the next: in a hurry, not every point is worth a visit.
  for (const [i, point] of points.filter((_, n) => isThorough || n % 3 === 0 || n === points.length - 1).entries()) {
    for (const after of NAMES.filter((_, n) => isThorough || n === i % NAMES.length))
      await matrix.cell(point, after, () => crash(executor, command, point, after));
  }
  process.stdout.write(matrix.render());
  matrices.push(matrix);
  expect(matrix.failures).toEqual([]);
  const section = renderGoodSection(matrix.title, points, NAMES.length);
  if (isWhole) return;
  const documented = linesOfPage(matrix.title);
  expect(documented, "docs/cni-crash-matrix.md is old: npm run crash-matrix").toEqual(linesOf(section));
}

describe.concurrent("killed before and after each effect of ADD and of DEL", () => {
  it.each([
    ["agent", () => agentOn(agents)],
    ["standalone program", () => standaloneOn(alone)],
  ] as const)("the %s", { timeout: 900_000 }, async (name, make) => {
    const executor = make();
    for (const command of ["ADD", "DEL"] as const) await runMatrix(executor, name, command);
  });
});

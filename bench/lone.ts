// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { endedChildrenCPU, threadCPU } from "./cpu.ts";
import { type Command, type Contender, callPlugin, type PluginCall } from "./plugin-call.ts";
import { formatMs, median, percentile, sum } from "./stats.ts";

/** One pod at a time. */
export interface LoneFigures {
  readonly name: string;
  readonly calls: Readonly<Record<Command, CallFigures>>;
}

export interface CallFigures {
  /** Each call's time, by round. Units: milliseconds. */
  readonly rounds: readonly (readonly number[])[];
  /** CPU time of all calls together, by process and thread. */
  readonly cpu: CPUTimes;
}

/** Units: milliseconds. `plugin` is what the runtime executes, with its children; the others are threads of daemons. */
export type CPUTimes = Readonly<Record<string, number>>;

export interface LoneOptions {
  readonly contenders: readonly Contender[];
  readonly rounds: number;
  readonly podsARound: number;
  /** One namespace for each contender. */
  readonly netns: readonly string[];
  /** Process IDs of daemons whose CPU time counts, by their names, for the contender of that name. */
  readonly daemons: Readonly<Record<string, Daemons>>;
  /** First pod to use; each set of calls uses the next. */
  readonly firstPod: number;
}

export type Daemons = Readonly<Record<string, number>>;

const COMMANDS: readonly Command[] = ["ADD", "CHECK", "DEL"];

/**
 * Before the rounds that count, for contenders with daemons. These live for weeks; their code is compiled as it runs, and
 * for some hundred calls the compiler's threads alone take half a millisecond of CPU a call.
 */
export const WARM_UP_PODS = 400;
/** Daemons go on a little after the answer (status, watches): that is work of the call, too. */
const SETTLE_MS = 15;

/** ADD, CHECK and DEL, one pod after the other; the contenders take turns, and the order of the turns rotates. */
export async function measureLone(options: LoneOptions): Promise<readonly LoneFigures[]> {
  const { contenders, rounds, podsARound, netns, daemons, firstPod } = options;
  const ledgers = contenders.map(() => new Ledger());
  for (const [index, contender] of contenders.entries()) {
    if (daemons[contender.name] !== undefined) await warmUp(contender, netns[index] ?? "", firstPod);
  }
  for (let n = 0; n < rounds * podsARound; n++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const index = (turn + n) % contenders.length;
      const [contender, ledger] = [contenders[index], ledgers[index]];
      if (contender === undefined || ledger === undefined) continue;
      const pids = daemons[contender.name] ?? {};
      const containerID = randomBytes(32).toString("hex");
      let added: string | undefined;
      for (const command of COMMANDS) {
        const call = { contender, command, pod: firstPod + WARM_UP_PODS + n, netns: netns[index] ?? "" };
        const { ms, output, cpu } = await measureCall({ ...call, containerID, ...(added && { added }) }, pids);
        if (command === "ADD") added = output;
        ledger.note(command, Math.floor(n / podsARound), ms, cpu);
      }
    }
  }
  return contenders.map(({ name }, i) => ({ name, calls: ledgers[i]?.figures() ?? new Ledger().figures() }));
}

class Ledger {
  readonly #rounds = { ADD: [] as number[][], CHECK: [] as number[][], DEL: [] as number[][] };
  readonly #cpu: Record<Command, CPUTimes> = { ADD: {}, CHECK: {}, DEL: {} };

  note(command: Command, round: number, ms: number, cpu: CPUTimes): void {
    const rounds = this.#rounds[command];
    rounds[round] = [...(rounds[round] ?? []), ms];
    this.#cpu[command] = addTimes(this.#cpu[command], cpu);
  }

  figures(): LoneFigures["calls"] {
    const of = (command: Command): CallFigures => ({ rounds: this.#rounds[command], cpu: this.#cpu[command] });
    return { ADD: of("ADD"), CHECK: of("CHECK"), DEL: of("DEL") };
  }
}

async function warmUp(contender: Contender, netns: string, firstPod: number): Promise<void> {
  for (let n = 0; n < WARM_UP_PODS; n++) {
    const call = { contender, pod: firstPod + n, containerID: randomBytes(32).toString("hex"), netns };
    await callPlugin({ ...call, command: "ADD" });
    await callPlugin({ ...call, command: "DEL" });
  }
}

async function measureCall(
  call: PluginCall,
  pids: Daemons,
): Promise<{ readonly ms: number; readonly output: string; readonly cpu: CPUTimes }> {
  const before = readCPU(pids);
  const answer = await callPlugin(call);
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  return { ...answer, cpu: spentSince(before, pids) };
}

/** CPU time up to now, of plugins that have ended and of daemons by thread. */
export function readCPU(pids: Daemons): CPUTimes {
  const daemons = Object.entries(pids).flatMap(([name, pid]) =>
    Object.entries(threadCPU(pid)).map(([thread, ms]) => [`${name}, ${thread}`, ms] as const),
  );
  return { plugin: endedChildrenCPU(), ...Object.fromEntries(daemons) };
}

export function spentSince(before: CPUTimes, pids: Daemons): CPUTimes {
  const after = Object.entries(readCPU(pids));
  return Object.fromEntries(after.map(([name, ms]) => [name, ms - (before[name] ?? 0)]));
}

function addTimes(a: CPUTimes, b: CPUTimes): CPUTimes {
  return { ...a, ...Object.fromEntries(Object.entries(b).map(([name, ms]) => [name, ms + (a[name] ?? 0)])) };
}

export function totalCPU(times: CPUTimes): number {
  return sum(Object.values(times));
}

/** Units: milliseconds a call. */
export function cpuPerCall({ cpu, rounds }: CallFigures): number {
  return totalCPU(cpu) / rounds.flat().length;
}

/** Where the CPU time of a command goes. */
export function renderCPU({ name, calls }: LoneFigures, command: Command): string {
  const { cpu, rounds } = calls[command];
  const count = rounds.flat().length;
  const parts = Object.entries(cpu)
    .map(([part, ms]) => [part, ms / count] as const)
    .filter(([, ms]) => ms >= 0.005)
    .sort(([, a], [, b]) => b - a)
    .map(([part, ms]) => `${part} ${formatMs(ms)}`);
  return `CPU of a lone ${command} of ${name}: ${parts.join("; ")}`;
}

const HEAD = ["one pod at a time", "p50", "p90", "p99", "p50 by round", "CPU a call"];

/** A line for each contender and command. */
export function renderLone(figures: readonly LoneFigures[]): readonly (readonly string[])[] {
  const rows = COMMANDS.flatMap((command) =>
    figures.map(({ name, calls }) => {
      const { rounds } = calls[command];
      const all = rounds.flat();
      const medians = rounds.map(median);
      const spread = `${formatMs(Math.min(...medians))} to ${formatMs(Math.max(...medians))}`;
      const times = [50, 90, 99].map((p) => formatMs(percentile(all, p)));
      return [`${command} of ${name}`, ...times, spread, formatMs(cpuPerCall(calls[command]))];
    }),
  );
  return [HEAD, ...rows];
}

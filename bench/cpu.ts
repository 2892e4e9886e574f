// SPDX-License-Identifier: Apache-2.0

// Node tells the CPU time of this process only. Outside of bench/, `node:ffi` belongs to netlink/libc.ts alone.
import { dlopen } from "node:ffi";
import { readdirSync, readFileSync } from "node:fs";

const { functions: libc } = dlopen(null, { getrusage: { arguments: ["i32", "buffer"], return: "i32" } });
const RUSAGE_CHILDREN = -1;

/** CPU time of all children that have ended, with theirs. Units: milliseconds. Source: getrusage(2). */
export function endedChildrenCPU(): number {
  const usage = new BigInt64Array(18);
  libc.getrusage(RUSAGE_CHILDREN, usage);
  const [userSeconds = 0n, userMicros = 0n, systemSeconds = 0n, systemMicros = 0n] = usage;
  return Number((userSeconds + systemSeconds) * 1_000_000n + userMicros + systemMicros) / 1000;
}

/** CPU time of a running process, all threads. Units: milliseconds. */
export function processCPU(pid: number): number {
  return Object.values(threadCPU(pid)).reduce((total, ms) => total + ms, 0);
}

/** Names of Node's threads and ours, as the kernel keeps them: 15 characters. */
const THREADS: Readonly<Record<string, string>> = {
  "node-MainThread": "main thread",
  "gingham-wiring": "wiring worker",
  "gingham-deletio": "deletion worker",
  "node-V8Worker": "V8's helpers",
  "libuv-worker": "thread pool",
};

/**
 * CPU time of a running process by kind of thread; those that have ended are not in it. Units: milliseconds.
 * Source: proc(5), /proc/PID/task/TID/schedstat.
 */
export function threadCPU(pid: number): Readonly<Record<string, number>> {
  const times: Record<string, number> = {};
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      const dir = `/proc/${pid}/task/${task}`;
      const kind = THREADS[readFileSync(`${dir}/comm`, "utf8").trim()] ?? "other threads";
      const nanos = Number(readFileSync(`${dir}/schedstat`, "utf8").split(" ")[0]);
      times[kind] = (times[kind] ?? 0) + nanos / 1e6;
    } catch {
      // A thread that has just ended.
    }
  }
  return times;
}

/** Resident memory. Units: megabytes (10^6). */
export function processRSS(pid: number): number {
  const match = /VmRSS:\s*(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return (Number(match?.[1] ?? 0) * 1024) / 1e6;
}

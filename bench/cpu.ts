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

/** CPU time of a running process, all threads. Units: milliseconds. Source: proc(5), /proc/PID/schedstat. */
export function processCPU(pid: number): number {
  let nanos = 0n;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      nanos += BigInt(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0] ?? "0");
    } catch {
      // A thread that has just ended; threads of ours live as long as their process.
    }
  }
  return Number(nanos) / 1e6;
}

/** Resident memory. Units: megabytes (10^6). */
export function processRSS(pid: number): number {
  const match = /VmRSS:\s*(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return (Number(match?.[1] ?? 0) * 1024) / 1e6;
}

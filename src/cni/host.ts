// SPDX-License-Identifier: Apache-2.0
import { readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { IP } from "../net/ip.ts";
import type { Host } from "./ports.ts";
import type { Executor } from "./types.ts";

/**
 * This machine and process, read once.
 *
 * @throws Error of node:fs when /proc is not mounted: nothing here works without it
 */
export function linuxHost({
  nodeName,
  podMTUBytes,
  ownAddresses = () => [],
}: {
  readonly nodeName: string;
  /** Asked for each pod, since the MTU between nodes may change. */
  readonly podMTUBytes: () => number;
  readonly ownAddresses?: () => readonly IP[];
}): Host {
  const self = startTicksOf("self");
  if (self === undefined) throw new Error("Cannot read /proc/self/stat: mount /proc");
  const here = { mntns: inodeOf("/proc/self/ns/mnt"), pidns: inodeOf("/proc/self/ns/pid") };
  return {
    nodeName,
    get podMTUBytes() {
      return podMTUBytes();
    },
    get ownAddresses() {
      return ownAddresses();
    },
    bootID: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    executor: { pid: process.pid, startTicks: self },
    isAlive: (executor: Executor) => startTicksOf(String(executor.pid)) === executor.startTicks,
    nodeNameIn(path) {
      try {
        return readFileSync(path, "utf8").trim();
      } catch {
        return undefined;
      }
    },
    async vantageOf(netnsPath) {
      try {
        const dir = statSync(dirname(netnsPath), { bigint: true });
        return { ...here, dir: { dev: dir.dev, inode: dir.ino } };
      } catch {
        return here;
      }
    },
  };
}

/** Field 22. The second field, a name in parentheses, may hold blanks and parentheses itself. */
function startTicksOf(pid: string): number | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const ticks = text.slice(text.lastIndexOf(")") + 2).split(" ")[19];
    return ticks === undefined ? undefined : Number(ticks);
  } catch {
    return undefined;
  }
}

function inodeOf(path: string): bigint {
  return statSync(path, { bigint: true }).ino;
}

// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import type { Family } from "../net/ip.ts";
import { errnoName, errnoOf, SysctlError } from "./errors.ts";

const ROOT = "/proc/sys/net";

/**
 * Writes one kernel setting of the calling thread's network namespace: /proc/sys/net shows each thread its own.
 *
 * The path comes in parts, since an interface name may hold the dot that `sysctl` would split at. Writing the file is
 * the check: the kernel refuses in write(2), where `sysctl -w` can return 0 on failure.
 *
 * @throws SysctlError which names the file
 */
export function writeSysctl(path: readonly string[], value: string | number): void {
  const file = `${ROOT}/${path.join("/")}`;
  try {
    writeFileSync(file, String(value), { flag: "r+" });
  } catch (cause) {
    const hint = existsSync(file) ? "is /proc/sys mounted read-only?" : "is the protocol or interface missing?";
    throw new SysctlError(file, `Cannot write ${value} to ${file}: ${errnoName(errnoOf(cause))}, ${hint}`, { cause });
  }
}

/**
 * Reads one kernel setting of the calling thread's network namespace; undefined where it does not exist.
 *
 * @throws SysctlError which names the file
 */
export function readSysctl(path: readonly string[]): string | undefined {
  const file = `${ROOT}/${path.join("/")}`;
  try {
    return readFileSync(file, "utf8").trim();
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === constants.errno.ENOENT) return undefined;
    throw new SysctlError(file, `Cannot read ${file}: ${errnoName(errno)}`, { cause });
  }
}

/** False where the kernel was booted or built without IPv6. */
export function hasIPv6(): boolean {
  return existsSync(`${ROOT}/ipv6/conf`);
}

/** Whether the node forwards packets, for all interfaces of the thread's namespace. @throws SysctlError */
export function isForwarding(family: Family): boolean {
  const path = family === 4 ? ["ipv4", "ip_forward"] : ["ipv6", "conf", "all", "forwarding"];
  return readSysctl(path) === "1";
}

/**
 * Lets the node forward packets, for all interfaces of the thread's namespace. Writing 1 where 1 stands costs nothing.
 *
 * @throws SysctlError
 */
export function enableForwarding(families: readonly Family[] = hasIPv6() ? [4, 6] : [4]): void {
  if (families.includes(4)) writeSysctl(["ipv4", "ip_forward"], 1);
  if (families.includes(6)) writeSysctl(["ipv6", "conf", "all", "forwarding"], 1);
}

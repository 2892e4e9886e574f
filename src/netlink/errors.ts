// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import { GinghamError } from "../lib/errors.ts";
import type { ExtendedAck } from "./wire/message.ts";

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map([
  ...Object.entries(constants.errno).map(([name, value]): [number, string] => [value, name]),
  // EAGAIN and EWOULDBLOCK are one number; and the kernel leaks this one of its own to users.
  [constants.errno.EAGAIN, "EAGAIN"],
  [524, "ENOTSUPP"],
]);

/** The symbol of an errno, `EEXIST`. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `errno ${errno}`;
}

/** The errno of an error that `node:fs` threw, or 0. */
export function errnoOf(error: unknown): number {
  const errno = error instanceof Error && "errno" in error ? error.errno : undefined;
  return typeof errno === "number" ? Math.abs(errno) : 0;
}

export interface NetlinkErrorFields {
  /** What was asked: the kernel's message type with its object, or the name of a system call. */
  readonly op: string;
  readonly errno: number;
  readonly extack?: ExtendedAck;
}

/** The kernel refused a request, or a system call about a socket or namespace failed. Branch on `errno`. */
export class NetlinkError extends GinghamError {
  readonly op: string;
  readonly errno: number;
  readonly errnoName: string;
  readonly extack: ExtendedAck | undefined;

  constructor(fields: NetlinkErrorFields, options?: ErrorOptions) {
    const { op, errno, extack } = fields;
    const offset = extack?.offset === undefined ? "" : ` (attribute at offset ${extack.offset})`;
    const words = extack?.message === undefined ? "" : `: ${extack.message.replace(/\.$/, "")}`;
    super("Netlink", `${op} failed with ${errnoName(errno)}${words}${offset}`, options);
    this.op = op;
    this.errno = errno;
    this.errnoName = errnoName(errno);
    this.extack = extack;
  }
}

/** A file under /proc/sys could not be read or written. */
export class SysctlError extends GinghamError {
  readonly path: string;

  constructor(path: string, message: string, options?: ErrorOptions) {
    super("Sysctl", message, options);
    this.path = path;
  }
}

/**
 * Why a pod could not be wired: its namespace is not there, the name inside it is taken, or the kernel refused a step.
 * The CNI turns the code into the specification's number.
 */
export type WiringErrorCode = "NetnsGone" | "IfaceExists" | "Kernel";

export class WiringError extends GinghamError {
  declare readonly code: WiringErrorCode;

  constructor(code: WiringErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** The thread that does kernel work has died; its calls were lost and the process should restart into a resync. */
export class KernelWorkerError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("KernelWorker", message, options);
  }
}

/** A packet from one test pod to another did not arrive, or its answer did not come back. */
export class SelfTestError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("SelfTest", message, options);
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Conntrack } from "../cni/conntrack/ports.ts";
import type { PodWiring } from "../cni/ports.ts";
import type { TableChange } from "../felix/nft/ports.ts";
import type { EchoPort } from "../felix/path-mtu/ports.ts";
import type {
  KernelRoute,
  LinkSetting,
  PodLinks,
  RouteDataplane,
  TunnelDataplane,
  TunnelEntry,
} from "../felix/ports.ts";
import type { SelfTestPort } from "../felix/self-test/ports.ts";
import { GinghamError, InvariantError } from "../lib/errors.ts";
import { KernelWorkerError, NetlinkError, SysctlError, WiringError } from "./errors.ts";
import type { RouteChange } from "./ops/route-dataplane.ts";
import { DecodeError } from "./wire/errors.ts";

/**
 * What the main thread can ask of a kernel worker. Arguments and results are structured-cloned, so they are plain data;
 * a batch answers only with its failures, by position.
 */
export interface KernelCalls {
  identifyNetns: PodWiring["identifyNetns"];
  wire: PodWiring["wire"];
  unwire: PodWiring["unwire"];
  unwireFromNetns: PodWiring["unwireFromNetns"];
  inspect: PodWiring["inspect"];
  flushConntrack: Conntrack["flush"];
  selfTest: SelfTestPort["exchange"];
  echo: EchoPort["echo"];
  listRoutes: RouteDataplane["listRoutes"];
  listLinks: RouteDataplane["listLinks"];
  listAddrs: RouteDataplane["listAddrs"];
  replaceRoutes(routes: readonly KernelRoute[]): Promise<readonly BatchFailure[]>;
  deleteRoutes(routes: readonly KernelRoute[]): Promise<readonly BatchFailure[]>;
  changeDevice: TunnelDataplane["changeDevice"];
  listEntries: TunnelDataplane["listEntries"];
  replaceEntries(entries: readonly TunnelEntry[]): Promise<readonly BatchFailure[]>;
  deleteEntries(entries: readonly TunnelEntry[]): Promise<readonly BatchFailure[]>;
  listChangedSettings: PodLinks["listChanged"];
  writeSettings(settings: readonly LinkSetting[]): Promise<readonly BatchFailure[]>;
  /** From now on, changes of that kind are posted. */
  watch(topic: keyof Changes): Promise<void>;
  unwatch(topic: keyof Changes): Promise<void>;
  close(): Promise<void>;
}

/** What can be watched, and what is told of it. */
export interface Changes {
  readonly routes: RouteChange;
  readonly tables: TableChange;
}

export interface BatchFailure {
  readonly index: number;
  readonly error: PackedError;
}

export interface Call {
  readonly id: number;
  readonly method: keyof KernelCalls;
  readonly args: readonly unknown[];
}

/** What a worker posts: once `ready`, then answers and changes. */
export type WorkerMessage =
  | { readonly kind: "ready" }
  | { readonly kind: "result"; readonly id: number; readonly value: unknown }
  | { readonly kind: "error"; readonly id: number; readonly error: PackedError }
  | {
      [T in keyof Changes]: { readonly kind: "change"; readonly topic: T; readonly change: Changes[T] };
    }[keyof Changes];

/** An error as plain data: structured clone would keep neither class nor fields. */
export interface PackedError {
  readonly type: "Netlink" | "Wiring" | "Sysctl" | "Decode" | "Invariant" | "KernelWorker" | "Gingham" | "Error";
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly code?: string;
  readonly op?: string;
  readonly errno?: number;
  readonly extack?: { readonly message?: string; readonly offset?: number };
  readonly path?: string;
  readonly cause?: PackedError;
}

export function packError(error: unknown, depth = 0): PackedError {
  if (!(error instanceof Error)) return { type: "Error", name: "Error", message: String(error) };
  return {
    type: typeOf(error),
    name: error.name,
    message: error.message,
    ...(error.stack === undefined ? {} : { stack: error.stack }),
    ...(error instanceof GinghamError ? { code: error.code } : {}),
    ...(error instanceof NetlinkError ? { op: error.op, errno: error.errno } : {}),
    ...(error instanceof NetlinkError && error.extack !== undefined ? { extack: error.extack } : {}),
    ...(error instanceof SysctlError ? { path: error.path } : {}),
    ...(error.cause === undefined || depth > 5 ? {} : { cause: packError(error.cause, depth + 1) }),
  };
}

/** The same class with the same fields, message and stack. */
export function unpackError(packed: PackedError): Error {
  const options = packed.cause === undefined ? {} : { cause: unpackError(packed.cause) };
  const error = construct(packed, options);
  if (packed.stack !== undefined) error.stack = packed.stack;
  return error;
}

function construct(packed: PackedError, options: ErrorOptions): Error {
  const { message } = packed;
  switch (packed.type) {
    case "Netlink": {
      const { op = "", errno = 0, extack } = packed;
      return new NetlinkError({ op, errno, ...(extack === undefined ? {} : { extack }) }, options);
    }
    case "Wiring":
      return new WiringError(wiringCode(packed.code), message, options);
    case "Sysctl":
      return new SysctlError(packed.path ?? "", message, options);
    case "Decode":
      return new DecodeError(message, options);
    case "Invariant":
      return new InvariantError(message, options);
    case "KernelWorker":
      return new KernelWorkerError(message, options);
    case "Gingham":
      return new GinghamError(packed.code ?? "Internal", message, options);
    case "Error":
      return Object.assign(new Error(message, options), { name: packed.name });
    default:
      return packed.type satisfies never;
  }
}

function typeOf(error: Error): PackedError["type"] {
  if (error instanceof NetlinkError) return "Netlink";
  if (error instanceof WiringError) return "Wiring";
  if (error instanceof SysctlError) return "Sysctl";
  if (error instanceof DecodeError) return "Decode";
  if (error instanceof InvariantError) return "Invariant";
  if (error instanceof KernelWorkerError) return "KernelWorker";
  return error instanceof GinghamError ? "Gingham" : "Error";
}

function wiringCode(code: string | undefined): WiringError["code"] {
  return code === "NetnsGone" || code === "IfaceExists" ? code : "Kernel";
}

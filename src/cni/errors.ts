// SPDX-License-Identifier: Apache-2.0
import { IPAMError } from "../ipam/errors.ts";
import { describeError, GinghamError } from "../lib/errors.ts";

/**
 * Every error code that a CNI answer of Gingham can hold; nowhere else is there a number.
 * Source: CNI SPEC 1.1.0, Section 5, Error: 1 to 99 are the specification's, from 100 the plugin's own.
 */
export const CNI_CODE = {
  IncompatibleVersion: 1,
  UnsupportedField: 2,
  UnknownContainer: 3,
  InvalidEnvironment: 4,
  IOFailure: 5,
  Undecodable: 6,
  InvalidNetworkConfig: 7,
  TryAgainLater: 11,
  NotAvailable: 50,
  NotAvailableAndDegraded: 51,
  Internal: 100,
  NoAddress: 101,
  PoolNotFound: 102,
  Forbidden: 103,
  Wiring: 104,
  NotSupportedYet: 105,
  Rejected: 106,
  CheckFailed: 107,
  Delegate: 108,
} as const;

export type CNICodeName = keyof typeof CNI_CODE;

/** An error whose place among the CNI codes is known where it is thrown. `code` is the name in CNI_CODE. */
export class CNIError extends GinghamError {
  readonly cniCode: number;

  constructor(name: CNICodeName, message: string, options?: ErrorOptions) {
    super(name, message, options);
    this.cniCode = CNI_CODE[name];
  }
}

/** An ADD was told to stop: its caller hung up, or a DEL for the same attachment arrived. */
export class CancelledError extends CNIError {
  constructor(what: string, why: string) {
    super("TryAgainLater", `${what} was cancelled: ${why}`);
  }
}

/** Another IPAM plugin is not installed, so it did nothing. */
export class MissingPluginError extends CNIError {
  constructor(message: string) {
    super("Delegate", message);
  }
}

/** The object that a plugin prints when it fails. */
export interface CNIErrorObject {
  readonly cniVersion: string;
  readonly code: number;
  readonly msg: string;
  readonly details?: string;
}

/**
 * Codes of other folders' errors that have a CNI code of their own. What is absent here is Internal.
 * Trouble that goes away by itself is 11, so that the runtime tries again.
 */
const FOREIGN: Readonly<Record<string, CNICodeName>> = {
  // ipam/errors.ts
  NoAddress: "NoAddress",
  BlockLimit: "NoAddress",
  AddressTaken: "NoAddress",
  Overlap: "NoAddress",
  PoolNotFound: "PoolNotFound",
  BrokenObject: "Rejected",
  InvalidHandle: "InvalidNetworkConfig",
  NotReady: "TryAgainLater",
  Contention: "TryAgainLater",
  Datastore: "TryAgainLater",
  // kube/errors.ts: what the API server answered, or that it did not
  KubeConflict: "TryAgainLater",
  KubeAlreadyExists: "TryAgainLater",
  KubeNotFound: "TryAgainLater",
  KubeGone: "TryAgainLater",
  KubeTooManyRequests: "TryAgainLater",
  KubeServerError: "TryAgainLater",
  KubeUnreachable: "TryAgainLater",
  KubeForbidden: "Forbidden",
  KubeInvalid: "Rejected",
  KubeRequest: "Rejected",
  InvalidObject: "Rejected",
  // netlink/errors.ts
  NetnsGone: "InvalidEnvironment",
  IfaceExists: "InvalidEnvironment",
  Kernel: "Wiring",
  Netlink: "Wiring",
  Sysctl: "Wiring",
  KernelWorker: "TryAgainLater",
};

/** Whether a failed assign may have left addresses under its handle. IPAM knows; of any other failure nobody does. */
export function mayHaveTaken(error: unknown): boolean {
  return !(error instanceof IPAMError) || error.mayHoldAddresses;
}

/** Whether waiting may cure it: the datastore is away, slow or busy, or the call was cut short. */
export function isTransient(error: unknown): boolean {
  return codeNameOf(error) === "TryAgainLater";
}

export function isNetnsGone(error: unknown): boolean {
  return error instanceof GinghamError && error.code === "NetnsGone";
}

/** The answer for anything thrown. Shape: `msg` is the outermost message, `details` the chain of causes below it. */
export function toErrorObject(error: unknown, cniVersion: string): CNIErrorObject {
  const msg = error instanceof Error ? error.message : String(error);
  const details = error instanceof Error && error.cause !== undefined ? describeError(error.cause) : "";
  return { cniVersion, code: CNI_CODE[codeNameOf(error)], msg, ...(details === "" ? {} : { details }) };
}

/** Name of the CNI code with which an error is answered. */
export function codeNameOf(error: unknown): CNICodeName {
  if (error instanceof CNIError) return isCodeName(error.code) ? error.code : "Internal";
  if (error instanceof GinghamError) return FOREIGN[error.code] ?? "Internal";
  if (error instanceof Error) {
    // An aborted wait, or its time ran out (AbortSignal.timeout): either way the work may be tried again.
    if (error.name === "AbortError" || error.name === "TimeoutError") return "TryAgainLater";
    // What node:fs throws while a record is written.
    if ("syscall" in error) return "IOFailure";
  }
  return "Internal";
}

function isCodeName(code: string): code is CNICodeName {
  return Object.hasOwn(CNI_CODE, code);
}

// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../lib/errors.ts";
import { formatIP, type IP } from "../net/ip.ts";
import type { HeldAddress } from "./gc/types.ts";

/**
 * - `NoAddress`: nothing is free, and no block can be claimed.
 * - `BlockLimit`: the node owns as many blocks as it may, and all are full. At its limit a node does not borrow.
 * - `AddressTaken`: the address that was asked for by name has another holder, or is in a block that may not lend it.
 * - `PoolNotFound`: a pool that was named is not there or not enabled, or no pool suits at all.
 * - `InvalidSelector`: a pool has a selector that cannot be read, so it is not used. Reported beside the work.
 * - `NotReady`: the datastore is locked (`ClusterInformation.spec.datastoreReady` is false).
 * - `InvalidHandle`: the handle ID cannot name an object, or differs by case alone from another one.
 * - `Overlap`: nothing can be claimed, since blocks or pools of another shape lie across the pool.
 * - `BrokenObject`: a stored object is damaged, so that nothing can be said of its addresses.
 * - `Contention`: another writer was faster every time.
 * - `Datastore`: the API server is down, refuses, or did not say whether it took a write.
 */
export type IPAMErrorCode =
  | "NoAddress"
  | "BlockLimit"
  | "AddressTaken"
  | "PoolNotFound"
  | "InvalidSelector"
  | "NotReady"
  | "InvalidHandle"
  | "Overlap"
  | "BrokenObject"
  | "Contention"
  | "Datastore";

export interface IPAMErrorOptions extends ErrorOptions {
  /** The request may still hold addresses: release its handle when the datastore answers again. */
  readonly mayHoldAddresses?: boolean;
  /** With `AddressTaken`: who has it. */
  readonly holder?: HeldAddress;
}

/** Where people read more of an address: a part of messages. */
export function seeAddress(ip: IP): string {
  return `see gingham ipam show ${formatIP(ip)}`;
}

export class IPAMError extends GinghamError {
  declare readonly code: IPAMErrorCode;
  /** True when the undo is not certain: the caller must release by handle later, even though the request failed. */
  readonly mayHoldAddresses: boolean;
  /** With `AddressTaken`: who has it, by a block that was just read. Absent when nobody does but it cannot be had. */
  readonly holder?: HeldAddress;

  constructor(code: IPAMErrorCode, message: string, options: IPAMErrorOptions = {}) {
    super(code, message, options);
    this.mayHoldAddresses = options.mayHoldAddresses ?? false;
    if (options.holder !== undefined) this.holder = options.holder;
  }
}

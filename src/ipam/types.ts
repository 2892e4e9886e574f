// SPDX-License-Identifier: Apache-2.0
import type { AllowedUse } from "../crds/ip-pool.ts";
import type { CIDR } from "../net/cidr.ts";
import type { Family, IP } from "../net/ip.ts";

/** Names or CIDRs of pools, for each family; a family without any is not limited. */
export type PoolNames = { readonly [F in Family]?: readonly string[] };

/** One ADD's need. All or nothing: either every family asked for gets its addresses, or the request fails. */
export interface AssignRequest {
  /** `<network>.<containerID>`; the object's name is this in lower case. */
  readonly handleID: string;
  /** The owner's attributes, written to `secondary`: node, namespace, pod, timestamp. */
  readonly attributes: Readonly<Record<string, string>>;
  /** An address of each, in this order. */
  readonly families: readonly Family[];
  /** Addresses of each family; absent: 1. They share one record in each block that they come out of. */
  readonly count?: number;
  /**
   * Just this address for its family, whatever pools, selectors, reservations and block limits say; its pool must be
   * enabled and allow the use. At most one of each family; `count` does not hold for it.
   */
  readonly addresses?: readonly IP[];
  /** Pools to which the choice is limited; their selectors do not count then. */
  readonly pools?: PoolNames;
  /** The pod's namespace, whose labels pools may select; absent: no namespace, so no labels. */
  readonly namespace?: string;
  /** What the addresses are for, which their pools must allow. @default Workload */
  readonly use?: AllowedUse;
}

/** One address that a handle holds. Address, handle and sequence number together are the right to release it. */
export interface Allocation {
  readonly ip: IP;
  readonly handleID: string;
  /** The block that the address is out of. */
  readonly block: CIDR;
  /** The block's `sequenceNumberForAllocation` of this ordinal. */
  readonly sequenceNumber: bigint;
}

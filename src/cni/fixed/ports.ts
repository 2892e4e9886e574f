// SPDX-License-Identifier: Apache-2.0
import type { Reservation } from "../../crds/ip-reservation.ts";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import type { PodInfo } from "../ports.ts";

/** The IPReservations whose labels say who gets their addresses. */
export interface ReservationSource {
  /** Errors: IPAMError `Datastore`, or the API's. */
  owned(signal?: AbortSignal): Promise<readonly Reservation[]>;
}

/**
 * What it takes to free an address that is another's. Both questions go to the API server itself and to no cache, since
 * what follows cannot be taken back.
 */
export interface Holders {
  /** Whoever has that name now, whatever its UID. */
  pod(namespace: string, name: string, signal?: AbortSignal): Promise<PodInfo | undefined>;
  /** Whether the node carries the taint by which people say that nothing runs there any more. */
  isOutOfService(node: string, signal?: AbortSignal): Promise<boolean>;
  /** Texts of addresses to which this node's kernel has a route over one of its links; undefined: nobody looks. */
  routed(): Promise<ReadonlySet<string> | undefined>;
  /**
   * Frees the address if it is still this very assignment: a compare-and-swap with address, handle and sequence number.
   *
   * @throws IPAMError
   */
  takeAway(held: HeldAddress, signal?: AbortSignal): Promise<void>;
}

// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../../net/ip.ts";

/** What became of a flush. */
export type FlushOutcome =
  | { readonly kind: "flushed"; readonly entries: number }
  /** The kernel tracks no connections, so there is nothing that a pod could inherit. */
  | { readonly kind: "untracked"; readonly reason: string };

/**
 * The host's connection tracking table. Implemented by `netlink/ops/conntrack`; in the agent it runs in the worker thread
 * that deletes links.
 */
export interface Conntrack {
  /**
   * Deletes every entry that has one of the addresses as source or destination, in either direction: connections of a
   * pod, to it, and through NAT to it. One pass through the table serves all addresses. An address that the host
   * routes to a link of its own is left out: it is a pod's again.
   *
   * @throws NetlinkError, DecodeError; some entries may be left
   */
  flush(ips: readonly IP[]): Promise<FlushOutcome>;
}

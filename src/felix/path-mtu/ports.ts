// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../../net/ip.ts";

/** Implemented by `netlink/ops/echo`, in a worker thread. */
export interface EchoPort {
  /**
   * Sends one ICMP echo request that nobody may fragment, and waits for the answer, half a second at most. Resolves to whether
   * it came; a packet that the own link cannot carry is not answered.
   *
   * @param packetBytes size of the whole IP packet
   * @throws NetlinkError when the machine may not send any
   */
  echo(to: IP, packetBytes: number): Promise<boolean>;
}

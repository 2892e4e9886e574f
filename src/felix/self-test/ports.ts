// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../../net/ip.ts";

/** Addresses of one family that nobody has, for two pods that are there for a moment. */
export type TestPair = readonly [IP, IP];

/** Implemented by `netlink/ops/self-test`, in a worker thread. */
export interface SelfTestPort {
  /**
   * Makes two pods with these addresses, has a packet go from the first to the second and back, and removes them.
   *
   * @throws SelfTestError with what was lost; WiringError, NetlinkError when the pods cannot be made
   */
  exchange(pair: TestPair): Promise<void>;
}

// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import type { IPAMHandle } from "../../crds/ipam-handle.ts";
import type { IP } from "../../net/ip.ts";

/** Where this node's addresses and handles may be in the datastore. Implemented by `kube/node-blocks`. */
export interface NodeBlocks {
  /** False while somebody migrates the datastore: nothing may be given back. */
  isReady(): Promise<boolean>;
  /**
   * Reads blocks now: those that this node owns, or all, which also has addresses that it borrowed. Errors: of the API;
   * a damaged block is left out.
   */
  read(which: "own" | "all", signal: AbortSignal): AsyncIterable<IPAMBlock>;
  /** Names of the blocks that the last reading of all left out: nobody knows which handles they name. */
  unreadable(): ReadonlySet<string>;
  /** Reads all handles of the cluster, page by page. Errors: of the API; one that cannot be read is left out. */
  handles(signal: AbortSignal): AsyncIterable<IPAMHandle>;
  /** Says for all to see which addresses are in use here although the API server knows no pod for them. */
  publishInUse(ips: readonly IP[], signal: AbortSignal): Promise<void>;
}

// SPDX-License-Identifier: Apache-2.0
import type { Family, IP } from "../../net/ip.ts";

/** Asks the kernel which source address it would take. Implemented by `reach.ts`. */
export interface Reach {
  /** The source address towards a host (an address or a name); undefined when there is no way to it, or no such name. */
  sourceTowards(host: string, family: Family): Promise<IP | undefined>;
}

// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrCovers, formatCIDR } from "../../net/cidr.ts";
import type { WorkloadEndpoint } from "../ports.ts";
import type { BlockClaim } from "./block-routes.ts";

/** What is said about one destination, by who says it. */
export interface DestinationState {
  readonly dst: CIDR;
  /** By name of the affinity. */
  readonly claims: Map<string, BlockClaim>;
  /** By the attachment's key. */
  readonly endpoints: Map<string, WorkloadEndpoint>;
  /** Node by name of the block. */
  readonly borrowers: Map<string, string>;
}

/** All destinations, and which of them have to be resolved anew. */
export class Destinations {
  readonly #byKey = new Map<string, DestinationState>();
  readonly #dirty = new Set<string>();

  get(key: string): DestinationState | undefined {
    return this.#byKey.get(key);
  }

  /** The state of a destination that is about to change. */
  change(dst: CIDR): DestinationState {
    const key = formatCIDR(dst);
    this.#dirty.add(key);
    let destination = this.#byKey.get(key);
    if (destination === undefined) {
      destination = { dst, claims: new Map(), endpoints: new Map(), borrowers: new Map() };
      this.#byKey.set(key, destination);
    }
    return destination;
  }

  /** @param keys of destinations, be they known or not */
  mark(keys: Iterable<string>): void {
    for (const key of keys) this.#dirty.add(key);
  }

  /** Pools and blocks of mixed sizes change rarely, so a scan is cheaper than keeping a tree. */
  markInside(cidr: CIDR): void {
    for (const [key, { dst, claims, borrowers }] of this.#byKey) {
      if (claims.size + borrowers.size > 0 && cidrCovers(cidr, dst)) this.#dirty.add(key);
    }
  }

  /** Those that were marked since the last call. One about which nothing is said any more is told once, and forgotten. */
  takeDirty(): readonly (readonly [key: string, destination: DestinationState])[] {
    const taken: [string, DestinationState][] = [];
    for (const key of this.#dirty) {
      const destination = this.#byKey.get(key);
      if (destination === undefined) continue;
      const { claims, endpoints, borrowers } = destination;
      if (claims.size + endpoints.size + borrowers.size === 0) this.#byKey.delete(key);
      taken.push([key, destination]);
    }
    this.#dirty.clear();
    return taken;
  }
}

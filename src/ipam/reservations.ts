// SPDX-License-Identifier: Apache-2.0
import { blockOf, type CIDR, cidrCovers, hostCIDR, ipAt } from "../net/cidr.ts";
import { addToIP, bitsOf, familyOf, type IP } from "../net/ip.ts";
import { KnownBlocks } from "./candidates.ts";
import type { Reservations } from "./ports.ts";

/** Reservations, indexed for fast answers. */
export class ReservationIndex implements Reservations {
  readonly #networks: readonly CIDR[];
  readonly #index: KnownBlocks;

  constructor(networks: readonly CIDR[]) {
    this.#networks = networks;
    this.#index = new KnownBlocks(networks);
  }

  has(ip: IP): boolean {
    return this.#networks.length > 0 && this.#index.overlap(hostCIDR(ip)) !== undefined;
  }

  of(block: CIDR): ((ordinal: number) => boolean) | undefined {
    if (this.#networks.length === 0 || this.#index.overlap(block) === undefined) return undefined;
    return (ordinal) => this.has(ipAt(block, ordinal));
  }

  covers(network: CIDR): boolean {
    if (this.#networks.length === 0 || this.#index.overlap(network) === undefined) return false;
    if (this.widest(network) !== undefined) return true;
    if (network.prefixLength === bitsOf(familyOf(network.network))) return false;
    return halves(network).every((half) => this.covers(half));
  }

  widest(network: CIDR): CIDR | undefined {
    return this.#networks
      .filter((reserved) => cidrCovers(reserved, network))
      .reduce<CIDR | undefined>((a, b) => (a === undefined || b.prefixLength < a.prefixLength ? b : a), undefined);
  }
}

export const NO_RESERVATIONS: Reservations = new ReservationIndex([]);

function halves({ network, prefixLength }: CIDR): readonly CIDR[] {
  const lower = blockOf(network, prefixLength + 1);
  const hostBits = bitsOf(familyOf(network)) - prefixLength - 1;
  // Both halves lie in the network, so the sum stays in the family.
  const upper =
    typeof network === "number" ? addToIP(network, 2 ** hostBits) : ((network + (1n << BigInt(hostBits))) as IP);
  return [lower, { network: upper, prefixLength: prefixLength + 1 }];
}

// SPDX-License-Identifier: Apache-2.0
import { blockOf, type CIDR, cidrCovers, hostCIDR, ipAt } from "../net/cidr.ts";
import { addToIP, bitsOf, familyOf, type IP } from "../net/ip.ts";
import { KnownBlocks } from "./candidates.ts";

/**
 * The addresses that automatic assignment leaves alone. Asking for one by name, and giving it back, stay possible.
 *
 * Source: calico-interop 1.3 and 1.7.
 */
export class Reservations {
  readonly #networks: readonly CIDR[];
  readonly #index: KnownBlocks;

  constructor(networks: readonly CIDR[]) {
    this.#networks = networks;
    this.#index = new KnownBlocks(networks);
  }

  has(ip: IP): boolean {
    return this.#networks.length > 0 && this.#index.overlap(hostCIDR(ip)) !== undefined;
  }

  /** Tells which ordinals of a block are reserved; undefined when none is, as of nearly every block. */
  of(block: CIDR): ((ordinal: number) => boolean) | undefined {
    if (this.#networks.length === 0 || this.#index.overlap(block) === undefined) return undefined;
    return (ordinal) => this.has(ipAt(block, ordinal));
  }

  /** Whether every address of a network is reserved, by one reservation or by several together. */
  covers(network: CIDR): boolean {
    if (this.#networks.length === 0 || this.#index.overlap(network) === undefined) return false;
    if (this.widest(network) !== undefined) return true;
    if (network.prefixLength === bitsOf(familyOf(network.network))) return false;
    return halves(network).every((half) => this.covers(half));
  }

  /** The widest single reservation that holds the whole network, so that a walk can step over all of it at once. */
  widest(network: CIDR): CIDR | undefined {
    return this.#networks
      .filter((reserved) => cidrCovers(reserved, network))
      .reduce<CIDR | undefined>((a, b) => (a === undefined || b.prefixLength < a.prefixLength ? b : a), undefined);
  }
}

export const NO_RESERVATIONS: Reservations = new Reservations([]);

function halves({ network, prefixLength }: CIDR): readonly CIDR[] {
  const lower = blockOf(network, prefixLength + 1);
  const hostBits = bitsOf(familyOf(network)) - prefixLength - 1;
  // Both halves lie in the network, so the sum stays in the family.
  const upper =
    typeof network === "number" ? addToIP(network, 2 ** hostBits) : ((network + (1n << BigInt(hostBits))) as IP);
  return [lower, { network: upper, prefixLength: prefixLength + 1 }];
}

// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { IPPool } from "../../crds/ip-pool.ts";
import { type CIDR, cidrCovers, cidrFamily, cidrOf, cidrsOverlap, parseCIDR } from "../../net/cidr.ts";
import { addToIP, bitsOf, type Family, type IP, parseIP } from "../../net/ip.ts";
import { type Pool, poolOf } from "../calc/pools.ts";
import type { TestPair } from "./ports.ts";

/** Link-local, beside the gateway that pods have: where there is no pool, or nothing of it unclaimed. */
const FALLBACK: Readonly<Record<Family, TestPair>> = {
  4: [parseIP("169.254.1.2"), parseIP("169.254.1.3")],
  // Of a network that is nobody's: the bytes say "gingham". Source: RFC 4193, fd00::/8 chosen locally.
  6: [parseIP("fd67:696e:6768:616d::2"), parseIP("fd67:696e:6768:616d::3")],
};

/**
 * Addresses for the self-test, of each family that pods of this cluster have.
 *
 * They come out of a pool, since other programs' rules let pods through by their pools, and lie in no block that anybody
 * claims, so that nobody has them; nothing is taken from IPAM. The highest are claimed last.
 */
export function testPairs(pools: Iterable<IPPool>, claims: Iterable<BlockAffinity>): readonly TestPair[] {
  const readable = [...pools].flatMap(readPool).filter(({ loadBalancerOnly }) => !loadBalancerOnly);
  const claimed = [...claims].flatMap(({ spec }) => readCIDR(spec.cidr));
  const pairs = ([4, 6] as const).flatMap((family) => {
    const own = readable.filter(({ cidr }) => cidrFamily(cidr) === family);
    if (own.length === 0) return [];
    const found = own.map(({ cidr }) => highestUnclaimed(cidr, claimed)).find((pair) => pair !== undefined);
    return [found ?? FALLBACK[family]];
  });
  return pairs.length > 0 ? pairs : [FALLBACK[4]];
}

/** The last two addresses of the network that lie in none of the others. */
function highestUnclaimed(network: CIDR, claimed: readonly CIDR[]): TestPair | undefined {
  const bits = bitsOf(cidrFamily(network));
  let last = lastOf(network);
  for (;;) {
    const pair = cidrOf(last, bits - 1);
    if (!cidrsOverlap(network, pair) || pair.prefixLength < network.prefixLength) return undefined;
    const inTheWay = claimed.find((cidr) => cidrFamily(cidr) === cidrFamily(pair) && cidrsOverlap(cidr, pair));
    if (inTheWay === undefined) return [pair.network, addToIP(pair.network, 1)];
    const below = before(cidrCovers(inTheWay, pair) ? inTheWay.network : pair.network);
    if (below === undefined) return undefined;
    last = below;
  }
}

/** Beyond 2^53 addresses their number is no exact `number`. */
function lastOf({ network, prefixLength }: CIDR): IP {
  if (typeof network === "number") return addToIP(network, 2 ** (32 - prefixLength) - 1);
  return (network | ((1n << BigInt(128 - prefixLength)) - 1n)) as IP; // Its own network's address.
}

function before(ip: IP): IP | undefined {
  return BigInt(ip) === 0n ? undefined : addToIP(ip, -1);
}

/** What cannot be read is told by Felix. */
function readPool(object: IPPool): readonly Pool[] {
  try {
    return [poolOf(object)];
  } catch {
    return [];
  }
}

function readCIDR(text: string): readonly CIDR[] {
  try {
    return [parseCIDR(text)];
  } catch {
    return [];
  }
}

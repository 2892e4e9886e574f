// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrOf } from "../../net/cidr.ts";
import { bitsOf, type Family, familyOf, type IP } from "../../net/ip.ts";
import type { IPv4 } from "../../net/ipv4.ts";
import type { IPv6 } from "../../net/ipv6.ts";
import { AF_INET, AF_INET6 } from "./constants.ts";
import { DecodeError } from "./errors.ts";

/** AF_INET or AF_INET6. */
export function addressFamily(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6;
}

/** @throws DecodeError when the number is neither AF_INET nor AF_INET6 */
export function familyOfAF(af: number): Family {
  if (af === AF_INET) return 4;
  if (af === AF_INET6) return 6;
  throw new DecodeError(`Address family ${af} is neither AF_INET nor AF_INET6`);
}

/**
 * A network out of a header's prefix length and an address attribute; the kernel leaves the attribute out for length 0.
 *
 * @throws DecodeError when family, length and address do not fit
 */
export function prefixOf(family: Family, prefixLength: number, address: IP | undefined): CIDR {
  if (prefixLength > bitsOf(family)) throw new DecodeError(`Prefix length ${prefixLength} does not fit IPv${family}`);
  if (address === undefined) {
    if (prefixLength !== 0) throw new DecodeError(`Prefix of length ${prefixLength} has no address`);
    return { network: family === 4 ? (0 as IPv4) : (0n as IPv6), prefixLength: 0 };
  }
  if (familyOf(address) !== family) throw new DecodeError(`IPv${family} message holds an address of the other family`);
  return cidrOf(address, prefixLength);
}

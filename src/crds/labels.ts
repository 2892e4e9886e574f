// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import type { CIDR } from "../net/cidr.ts";
import { cidrFamily } from "../net/cidr.ts";
import type { Family } from "../net/ip.ts";

/** Labels of BlockAffinities. Calico from 3.31 on finds affinities by these alone. Source: calico-interop 1.5. */
export const HOSTNAME_HASH_LABEL = "projectcalico.org/hostname-hash";
export const AFFINITY_TYPE_LABEL = "projectcalico.org/affinity-type";
export const IP_VERSION_LABEL = "projectcalico.org/ip-version";

/** The labels that every write of an affinity must carry. */
export function affinityLabels(node: string, cidr: CIDR, type: "host" | "virtual" = "host"): Record<string, string> {
  return {
    [HOSTNAME_HASH_LABEL]: hostnameHash(node),
    [AFFINITY_TYPE_LABEL]: type,
    [IP_VERSION_LABEL]: String(cidrFamily(cidr)),
  };
}

/** Selects a node's affinities, of one family when given. Objects that old releases wrote have no labels to select. */
export function affinitySelector(node: string, family?: Family, type: "host" | "virtual" = "host"): string {
  const parts = [`${HOSTNAME_HASH_LABEL}=${hostnameHash(node)}`, `${AFFINITY_TYPE_LABEL}=${type}`];
  if (family !== undefined) parts.push(`${IP_VERSION_LABEL}=${family}`);
  return parts.join(",");
}

/** Base32 of SHA3-256, since a node's name may be longer than a label's 63 characters. */
export function hostnameHash(node: string): string {
  return encodeBase32(createHash("sha3-256").update(node).digest());
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** RFC 4648 section 6, without padding. */
function encodeBase32(bytes: Uint8Array): string {
  let text = "";
  let buffer = 0;
  let bits = 0;
  for (const byte of bytes) {
    buffer = (buffer << 8) | byte;
    bits += 8;
    for (; bits >= 5; bits -= 5) text += ALPHABET.charAt((buffer >>> (bits - 5)) & 31);
    buffer &= (1 << bits) - 1;
  }
  return bits > 0 ? text + ALPHABET.charAt((buffer << (5 - bits)) & 31) : text;
}

// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { type CIDR, formatCIDR, parseCIDR } from "../net/cidr.ts";

/** Longest name of an object. Source: RFC 1123 subdomain, as Kubernetes checks it. */
const MAX_NAME = 252;
const HASH_DIGITS = 11;

/** Name of a block's object. Never parse it back: `spec.cidr` is the truth. Source: calico-interop 1.4. */
export function blockName(cidr: CIDR): string {
  return formatCIDR(cidr).replace(/[.:/]/g, "-");
}

/** The same for a text that is to be a network, as counts of handles have them; any other text stays as it is. */
export function blockNameOf(text: string): string {
  try {
    return blockName(parseCIDR(text));
  } catch {
    return text;
  }
}

/** Name of the object by which a node claims a block. Source: calico-interop 1.4. */
export function affinityName(node: string, cidr: CIDR): string {
  const block = blockName(cidr);
  const name = `${node}-${block}`;
  if (name.length <= MAX_NAME) return name;
  const hash = createHash("sha256").update(`${node}+${block}`).digest("hex").slice(0, HASH_DIGITS);
  return `${node.slice(0, MAX_NAME - block.length - HASH_DIGITS - 2)}-${block}-${hash}`;
}

/** Name of a handle's object: no hash, no cut. Handles that differ by case alone share one object. */
export function handleName(handleID: string): string {
  return handleID.toLowerCase();
}

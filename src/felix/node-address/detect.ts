// SPDX-License-Identifier: Apache-2.0
import { cidrContains } from "../../net/cidr.ts";
import { bitsOf, type Family, familyOf, formatIP, type IP } from "../../net/ip.ts";
import type { KernelAddr, KernelLink } from "../ports.ts";
import type { DetectionMethod } from "./settings.ts";

/** Everything that a method looks at. */
export interface HostFacts {
  readonly links: readonly KernelLink[];
  readonly addrs: readonly KernelAddr[];
  /** Of this node's Node object. */
  readonly internalIPs: readonly IP[];
  /** For can-reach: the source address towards the destination; absent when there is no way to it. */
  readonly source?: IP;
  /** What this node's annotation says at present. */
  readonly current?: IP;
}

/** An address that a method offers. */
export interface Candidate {
  readonly ip: IP;
  /** Of the link; absent when no link carries the address. */
  readonly prefixLength?: number;
  readonly ifName?: string;
}

export type Detection =
  | { readonly kind: "found"; readonly candidate: Candidate }
  | { readonly kind: "absent"; readonly why: string }
  /** Each of them suits, and nothing says which is meant. */
  | { readonly kind: "ambiguous"; readonly candidates: readonly Candidate[] };

/**
 * Links that never carry a node's address. Calico's list; anchored at both ends here, where Calico's `lo` would leave
 * out a wireless card wlo1, too. Source: calico-interop 4.7.
 */
const EXCLUDED =
  /^(docker.*|cbr.*|dummy.*|podman.*|virbr.*|lxcbr.*|veth.*|lo|br-.*|cali.*|tunl.*|flannel.*|kube-ipvs.*|cni.*|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali|nodelocaldns.*)$/;

/** Whose addresses are pods' or tunnels', whatever a regular expression or a CIDR may match. */
const OWN = /^(cali.*|tunl0|vxlan\.calico|vxlan-v6\.calico|wireguard\.cali|wg-v6\.cali)$/;

interface OnLink extends Candidate {
  readonly addr: KernelAddr;
  readonly prefixLength: number;
  readonly ifName: string;
}

/**
 * Finds this node's address of a family.
 *
 * Only first-found has an order among links, so it alone takes the first of several. With any other method, several
 * addresses are a refusal, unless one of them is what the node has at present. Left out before that: secondary addresses
 * of a subnet, and addresses without a subnet (a virtual IP as /32) beside one that has one.
 */
export function detectAddress(method: DetectionMethod, family: Family, facts: HostFacts): Detection {
  const found = onLinks(facts, family);
  switch (method.kind) {
    case "first-found":
      return first(found.filter(({ ifName }) => !EXCLUDED.test(ifName)));
    case "interface":
      return single(
        found.filter(({ ifName }) => !OWN.test(ifName) && method.patterns.some((pattern) => pattern.test(ifName))),
        facts,
        "no link that is up and matches has one",
      );
    case "skip-interface":
      return single(
        found.filter(({ ifName }) => !EXCLUDED.test(ifName) && !method.patterns.some((p) => p.test(ifName))),
        facts,
        "no other link that is up has one",
      );
    case "cidr":
      return single(
        found.filter(({ ifName, ip }) => !OWN.test(ifName) && method.cidrs.some((cidr) => cidrContains(cidr, ip))),
        facts,
        "no link that is up has an address inside",
      );
    case "can-reach":
      if (facts.source === undefined) return { kind: "absent", why: `there is no way to ${method.destination}` };
      return { kind: "found", candidate: placed(facts.source, found) };
    case "kubernetes-internal-ip": {
      const ips = facts.internalIPs.filter((ip) => familyOf(ip) === family);
      return single(
        ips.map((ip) => placed(ip, found)),
        facts,
        `the Node has no InternalIP of IPv${family}`,
      );
    }
    default:
      return method satisfies never;
  }
}

/** Text for findings: `192.0.2.1 on eth0`. */
export function formatCandidate({ ip, ifName }: Candidate): string {
  return ifName === undefined ? formatIP(ip) : `${formatIP(ip)} on ${ifName}`;
}

/** Usable addresses on links that are up, by link with the newest first, as Calico looks at them. */
function onLinks({ links, addrs }: HostFacts, family: Family): readonly OnLink[] {
  const up = links.filter((link) => link.up).toSorted((a, b) => b.ifIndex - a.ifIndex);
  return up.flatMap((link) =>
    addrs
      .filter((addr) => addr.ifIndex === link.ifIndex && familyOf(addr.ip) === family && isUsable(addr))
      .map((addr) => ({ ip: addr.ip, prefixLength: addr.prefixLength, ifName: link.name, addr })),
  );
}

/** Global unicast, and there to stay. Source: RFC 4291 2.4, RFC 3927, RFC 8981. */
function isUsable({ ip, isTransient }: KernelAddr): boolean {
  if (isTransient === true) return false;
  const text = formatIP(ip);
  if (familyOf(ip) === 6) return !/^(fe[89ab]|ff|::1$|::$)/.test(text);
  return !/^(127\.|169\.254\.|0\.|22[4-9]\.|2[3-5]\d\.)/.test(text);
}

function first(found: readonly OnLink[]): Detection {
  const primary = found.filter(({ addr }) => addr.isSecondary !== true);
  const [best] = primary;
  if (best === undefined) return { kind: "absent", why: "no link that is up has one" };
  const sameLink = primary.filter(({ ifName }) => ifName === best.ifName);
  return { kind: "found", candidate: candidateOf(withSubnet(sameLink)[0] ?? best) };
}

function single(found: readonly (Candidate | OnLink)[], { current }: HostFacts, why: string): Detection {
  const primary = found.filter((candidate) => !("addr" in candidate) || candidate.addr.isSecondary !== true);
  const kept = unique(withSubnet(primary));
  const [only] = kept;
  if (only === undefined) return { kind: "absent", why };
  if (kept.length === 1) return { kind: "found", candidate: candidateOf(only) };
  const known = found.find(({ ip }) => ip === current);
  if (known !== undefined) return { kind: "found", candidate: candidateOf(known) };
  return { kind: "ambiguous", candidates: kept.map(candidateOf) };
}

function withSubnet<T extends Candidate>(found: readonly T[]): readonly T[] {
  const inSubnet = found.filter(({ ip, prefixLength }) => prefixLength !== bitsOf(familyOf(ip)));
  return inSubnet.length > 0 ? inSubnet : found;
}

function unique<T extends Candidate>(found: readonly T[]): readonly T[] {
  return found.filter(({ ip }, i) => found.findIndex((other) => other.ip === ip) === i);
}

function placed(ip: IP, found: readonly OnLink[]): Candidate {
  const at = found.find((candidate) => candidate.ip === ip);
  return at === undefined ? { ip } : candidateOf(at);
}

function candidateOf({ ip, prefixLength, ifName }: Candidate): Candidate {
  return { ip, ...(prefixLength !== undefined && { prefixLength }), ...(ifName !== undefined && { ifName }) };
}

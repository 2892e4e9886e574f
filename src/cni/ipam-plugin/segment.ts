// SPDX-License-Identifier: Apache-2.0
import type { FieldReader } from "../../crds/field-reader.ts";
import { type CIDR, cidrContains, cidrFamily, cidrSize, formatCIDR, ipAt, parseCIDR } from "../../net/cidr.ts";
import { addToIP, bitsOf, type Family, familyOf, formatIP, type IP, parseIP } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";
import type { IPAMResult, ResultRoute } from "../types.ts";

/** Addresses that reach each other without a router: what the prefix length in an IPAM plugin's answer says. */
export interface Segment {
  readonly subnet: CIDR;
  readonly gateway: IP;
}

/** How a plugin that calls Gingham as its IPAM wants its answer. */
export interface IPAMCaller {
  /** `type` of the network configuration, such as `bridge`. */
  readonly type: string;
  /** Segments that the configuration describes; none: each block is one. */
  readonly segments: readonly Segment[];
  /** Absent: a default route of each family. */
  readonly routes?: readonly ResultRoute[];
}

const DEFAULT_ROUTE: Readonly<Record<Family, string>> = { 4: "0.0.0.0/0", 6: "::/0" };

/** The words are host-local's: `subnet` and `gateway`, or `ranges` with several of them, and `routes`. */
export function readCaller(type: string, ipam: FieldReader): IPAMCaller {
  const segments = [
    ...(ipam.value("subnet") === undefined ? [] : [readSegment(ipam)]),
    ...ipam.list("ranges", (set, element) => {
      if (!Array.isArray(set)) throw ipam.fail(element, set, "a list of ranges");
      return set.map((raw: unknown, i) => readSegment(ipam.nested(`${element}[${i}]`, raw)));
    }),
  ].flat();
  const routes = ipam.list("routes", (raw, element) => {
    const route = ipam.nested(element, raw);
    const gw = route.optionalString("gw") || undefined;
    return { dst: route.cidr("dst"), ...(gw !== undefined && { gw }) };
  });
  return { type, segments, ...(ipam.value("routes") !== undefined && { routes }) };
}

function readSegment(range: FieldReader): Segment {
  const subnet = parseCIDR(range.cidr("subnet"));
  const text = range.optionalString("gateway") || undefined;
  if (text === undefined) return { subnet, gateway: ipAt(subnet, 1) };
  const gateway = tryParseIP(text);
  if (gateway === undefined || !cidrContains(subnet, gateway))
    throw range.fail("gateway", text, `an address of ${formatCIDR(subnet)}`);
  return { subnet, gateway };
}

function tryParseIP(text: string): IP | undefined {
  try {
    return parseIP(text);
  } catch {
    return undefined;
  }
}

/** The segment that an address is in. @throws CNIError `InvalidNetworkConfig` when the configuration describes none, or none fits */
export function segmentOf({ segments, type }: IPAMCaller, ip: IP, block: CIDR): Segment {
  const ofFamily = segments.filter(({ subnet }) => cidrFamily(subnet) === familyOf(ip));
  const segment = ofFamily.find(({ subnet }) => cidrContains(subnet, ip));
  if (segment !== undefined) return segment;
  if (ofFamily.length > 0) {
    const subnets = ofFamily.map(({ subnet }) => formatCIDR(subnet)).join(", ");
    const what = `Address ${formatIP(ip)} for plugin ${type} is outside of the subnets of its ipam (${subnets})`;
    throw new CNIError("InvalidNetworkConfig", `${what}; name a pool inside them in ipam.ipv${familyOf(ip)}_pools`);
  }
  if (cidrSize(block) >= 8) return { subnet: block, gateway: ipAt(block, 1) };
  const what = `Block ${formatCIDR(block)} is too small to be a subnet of plugin ${type}, with a gateway of its own`;
  const step = `use a pool of larger blocks (blockSize /${bitsOf(familyOf(ip)) - 3} at most), or write ipam.subnet`;
  throw new CNIError("InvalidNetworkConfig", `${what}; ${step}`);
}

/**
 * Addresses of a block that no pod on the segment may have: the gateway's, and those that the kernel takes for the whole
 * segment (the first; of IPv4 the last, too). Source: RFC 1122 3.2.1.3, RFC 4291 2.6.1.
 */
export function keptBack({ subnet, gateway }: Segment, block: CIDR): readonly IP[] {
  const first = subnet.network;
  const last = cidrFamily(subnet) === 4 ? [addToIP(first, 2 ** (32 - subnet.prefixLength) - 1)] : [];
  return [...new Set([first, gateway, ...last])].filter((ip) => cidrContains(block, ip));
}

/** What to answer. */
export function resultOf({ routes }: IPAMCaller, given: readonly { ip: IP; segment: Segment }[]): IPAMResult {
  const gateways = new Map(given.map(({ ip, segment }) => [familyOf(ip), formatIP(segment.gateway)] as const));
  // With their gateway, since the bridge plugin looks for that before it adds a default route of its own.
  const defaults = [...gateways].map(([family, gw]) => ({ dst: DEFAULT_ROUTE[family], gw }));
  return {
    ips: given.map(({ ip, segment }) => ({
      address: `${formatIP(ip)}/${segment.subnet.prefixLength}`,
      gateway: formatIP(segment.gateway),
    })),
    routes: routes ?? defaults,
  };
}

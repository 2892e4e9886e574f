// SPDX-License-Identifier: Apache-2.0
import { type CIDR, formatCIDR, hostCIDR } from "../net/cidr.ts";
import { familyOf, formatIP, type IP, parseIP } from "../net/ip.ts";
import type { PrevInterface, PrevResult } from "./input/prev-result.ts";
import { GATEWAY } from "./plan.ts";
import type { LinkFacts, RouteFacts, WiringFacts } from "./ports.ts";
import type { AssignedRecord, WholeRecord } from "./types.ts";

/** One thing that is not as it should be, for people. */
export interface Difference {
  readonly object: string;
  readonly want: string;
  readonly have: string;
  /** What to do about it. */
  readonly step: string;
}

const RECREATE = "delete the pod, or its sandbox, so that it is attached anew";
const NONE = "none";

/** What the runtime was answered, and now says that it was, against the record of what was made. */
export function comparePrevResult({ result }: WholeRecord, prev: PrevResult): Difference | undefined {
  const step = "hand in what ADD answered, or attach the pod anew";
  const { host, container } = result;
  const contIndex = indexOf(prev, container);
  if (indexOf(prev, { name: host.name, sandbox: "" }) < 0)
    return { object: "interfaces of prevResult", want: host.name, have: namesOf(prev), step };
  if (contIndex < 0) {
    const want = `${container.name} in ${container.sandbox}`;
    return { object: "interfaces of prevResult", want, have: namesOf(prev), step };
  }
  const have = prev.ips.filter((ip) => ip.interface === undefined || ip.interface === contIndex);
  const addresses = have.map(({ address }) => address);
  for (const ip of result.ips) {
    const want = formatCIDR(hostCIDR(ip));
    if (!addresses.includes(want))
      return { object: `ips of ${container.name} in prevResult`, want, have: listed(addresses), step };
  }
  for (const { dst, gw } of result.routes) {
    if (prev.routes.some((route) => route.dst === dst && (route.gw ?? gw) === gw)) continue;
    const routes = prev.routes.map((route) => routeText(route.dst, route.gw));
    return { object: "routes of prevResult", want: routeText(dst, gw), have: listed(routes), step };
  }
  return undefined;
}

/** The same for an attachment that another plugin wired: that one may have told of interfaces and routes what it likes. */
export function compareAddresses({ result }: AssignedRecord, prev: PrevResult): Difference | undefined {
  const have = prev.ips.map(({ address }) => address);
  const missing = result.ips.find(({ address }) => !have.includes(address));
  if (missing === undefined) return undefined;
  const step = "hand in what ADD answered, or attach the pod anew";
  return { object: "ips of prevResult", want: missing.address, have: listed(have), step };
}

/**
 * The kernel against the record. Where plugins after us have changed MAC or MTU and have said so in prevResult, that is
 * what is wanted. They may add addresses, routes and interfaces; only what we made must be there.
 *
 * Order: from the links outwards, so that what follows from another difference is not named in its stead.
 */
export function compareKernel(record: WholeRecord, prev: PrevResult, facts: WiringFacts): Difference | undefined {
  return compareLinks(record, prev, facts) ?? comparePod(record, facts) ?? compareHost(record, facts);
}

function compareLinks(record: WholeRecord, prev: PrevResult, facts: WiringFacts): Difference | undefined {
  const { hostIface, hostIfIndex, result } = record;
  const { container } = result;
  const { hostLink, contLink } = facts;
  const onHost = `link ${hostIface} of the host`;
  const inPod = `link ${container.name} in ${container.sandbox}`;
  const hostWanted = prev.interfaces[indexOf(prev, { name: hostIface, sandbox: "" })];
  const contWanted = prev.interfaces[indexOf(prev, container)];
  const mtuBytes = container.mtuBytes;
  if (hostLink?.ifIndex !== hostIfIndex)
    return differs(onHost, `index ${hostIfIndex}`, hostLink && `index ${hostLink.ifIndex}`);
  if (contLink === undefined) return differs(inPod, `the other end of ${hostIface}`, undefined);
  if (contLink.peerIfIndex !== hostIfIndex || hostLink.peerIfIndex !== contLink.ifIndex)
    return differs(inPod, `the other end of ${hostIface}`, "another link");
  return (
    compareLink(onHost, hostLink, { mac: result.host.mac, mtuBytes, told: hostWanted }) ??
    compareLink(inPod, contLink, { mac: container.mac, mtuBytes, told: contWanted })
  );
}

function compareLink(
  link: string,
  have: LinkFacts,
  want: { readonly mac: string; readonly mtuBytes: number; readonly told: PrevInterface | undefined },
): Difference | undefined {
  const mac = want.told?.mac ?? want.mac;
  const mtuBytes = want.told?.mtuBytes ?? want.mtuBytes;
  if (have.mac !== mac) return differs(`MAC of ${link}`, mac, have.mac);
  if (have.mtuBytes !== mtuBytes) {
    const step = `set it with ip link set mtu ${mtuBytes}, or attach the pod anew`;
    return { object: `MTU of ${link}`, want: String(mtuBytes), have: String(have.mtuBytes), step };
  }
  return have.isUp ? undefined : differs(`state of ${link}`, "up", "down");
}

function comparePod({ result }: WholeRecord, facts: WiringFacts): Difference | undefined {
  const { name, sandbox } = result.container;
  const where = `of ${name} in ${sandbox}`;
  const addresses = facts.contAddrs.map(({ ip, prefixLength }) => `${formatIP(ip)}/${prefixLength}`);
  for (const ip of result.ips) {
    const want = formatCIDR(hostCIDR(ip));
    if (!addresses.includes(want)) return differs(`addresses ${where}`, want, listed(addresses));
  }
  const routes = facts.contRoutes.filter(({ dev }) => dev === name);
  const wanted = result.routes.map(({ dst, gw }) => routeText(dst, gw));
  const toGateway = result.ips.some((ip) => familyOf(ip) === 4) ? [routeText(`${GATEWAY[4]}/32`)] : [];
  for (const want of [...toGateway, ...wanted]) {
    if (!routes.some((route) => textOf(route) === want))
      return differs(`routes ${where}`, want, listed(routes.map(textOf)));
  }
  return undefined;
}

function compareHost({ hostIface, result }: WholeRecord, facts: WiringFacts): Difference | undefined {
  const gateway = parseIP(GATEWAY[6]);
  if (result.ips.some((ip) => familyOf(ip) === 6) && !facts.hostAddrs.some(({ ip }) => ip === gateway)) {
    const have = listed(facts.hostAddrs.map(({ ip }) => formatIP(ip)));
    return differs(`addresses of ${hostIface} of the host`, GATEWAY[6], have);
  }
  for (const ip of result.ips) {
    const route = facts.hostRoutes.find((one) => one.ip === ip)?.route;
    if (isHostRoute(route, ip, hostIface)) continue;
    const want = `${routeText(formatCIDR(hostCIDR(ip)))} dev ${hostIface}`;
    const have = route && `${textOf(route)}${route.dev === undefined ? "" : ` dev ${route.dev}`}`;
    const step = "look into the agent's log for what keeps it from writing routes (component felix)";
    return { object: `route of the host to ${formatIP(ip)}`, want, have: have ?? NONE, step };
  }
  for (const { path, expected, actual } of facts.hostSysctls) {
    if (actual === expected) continue;
    const step = `write it back, and find who changes it: echo ${expected} > /proc/sys/${path}`;
    return { object: `setting ${path}`, want: expected, have: actual ?? NONE, step };
  }
  return undefined;
}

function isHostRoute(route: RouteFacts | undefined, ip: IP, hostIface: string): boolean {
  return route?.dev === hostIface && route.gateway === undefined && isSameCIDR(route.dst, hostCIDR(ip));
}

function isSameCIDR(a: CIDR, b: CIDR): boolean {
  return a.network === b.network && a.prefixLength === b.prefixLength;
}

function textOf({ dst, gateway }: RouteFacts): string {
  return routeText(formatCIDR(dst), gateway === undefined ? undefined : formatIP(gateway));
}

function routeText(dst: string, gw?: string): string {
  return gw === undefined ? dst : `${dst} via ${gw}`;
}

function indexOf(
  { interfaces }: PrevResult,
  { name, sandbox }: { readonly name: string; readonly sandbox: string },
): number {
  return interfaces.findIndex((iface) => iface.name === name && plainPath(iface.sandbox) === plainPath(sandbox));
}

/** Runtimes name namespaces by /var/run, which leads to /run; of a pod that was adopted it is not known how its runtime names it. */
function plainPath(path: string): string {
  return path.replace(/^\/var\/run\//, "/run/");
}

function namesOf({ interfaces }: PrevResult): string {
  return listed(interfaces.map(({ name, sandbox }) => (sandbox === "" ? name : `${name} in ${sandbox}`)));
}

function listed(texts: readonly string[]): string {
  return texts.length === 0 ? NONE : texts.join(", ");
}

function differs(object: string, want: string, have: string | undefined): Difference {
  return { object, want, have: have ?? NONE, step: RECREATE };
}

// SPDX-License-Identifier: Apache-2.0
import { cidrFamily, hostCIDR } from "../net/cidr.ts";
import { bitsOf, type Family, familyOf, type IP, parseIP } from "../net/ip.ts";
import { type MAC, parseMAC } from "../net/mac.ts";
import { WiringError } from "../netlink/errors.ts";
import { HOST_MAC } from "./plan.ts";
import type {
  LinkFacts,
  NetnsIdentity,
  PodWiring,
  SysctlFacts,
  WiredPod,
  WiringFacts,
  WiringPlan,
  WiringQuery,
} from "./ports.ts";

const GATEWAY: Readonly<Record<Family, IP>> = { 4: parseIP("169.254.1.1"), 6: parseIP("fe80::ecee:eeff:feee:eeee") };
const ROUTE_PROTOCOL = 80;
const RTPROT_BOOT = 3;

interface Netns extends NetnsIdentity {
  /** Interfaces by name; the value is the host link of a pair, or undefined for one that is not ours. */
  readonly ifaces: Map<string, FakeLink | undefined>;
}

/** One veth pair. */
export interface FakeLink {
  readonly hostIface: string;
  readonly hostIfIndex: number;
  readonly contIface: string;
  readonly netns: NetnsIdentity;
  readonly ips: readonly IP[];
  readonly contMAC: MAC;
  readonly mtuBytes: number;
  readonly routes: WiringPlan["routes"];
}

/** A kernel in memory: namespaces by path, pairs by their host's end. */
export class FakeKernel {
  readonly #namespaces = new Map<string, Netns>();
  readonly #links = new Map<string, FakeLink>();
  readonly #tampered = new Map<FakeLink, (facts: WiringFacts) => WiringFacts>();
  #nextInode = 4_026_532_000n;
  #nextIfIndex = 10;

  /** A new namespace at the path; whatever was there is gone. */
  addNetns(path: string): void {
    this.removeNetns(path);
    this.#namespaces.set(path, { dev: 4n, inode: this.#nextInode++, ifaces: new Map() });
  }

  /** A namespace takes its interfaces with it, and each the other end. */
  removeNetns(path: string): void {
    for (const link of this.#namespaces.get(path)?.ifaces.values() ?? []) {
      if (link !== undefined) this.#links.delete(link.hostIface);
    }
    this.#namespaces.delete(path);
  }

  /** An interface that is not ours. */
  addForeignIface(path: string, name: string): void {
    this.netns(path).ifaces.set(name, undefined);
  }

  /** Everything dies but the disk. */
  /** Inodes and indexes are counted anew, so what comes may be taken for what was. */
  reboot(): void {
    for (const path of [...this.#namespaces.keys()]) this.removeNetns(path);
    this.#nextInode = 4_026_532_000n;
    this.#nextIfIndex = 10;
  }

  get links(): readonly FakeLink[] {
    return [...this.#links.values()];
  }

  linkOf(hostIface: string): FakeLink | undefined {
    return this.#links.get(hostIface);
  }

  /** @throws WiringError NetnsGone */
  netns(path: string): Netns {
    const netns = this.#namespaces.get(path);
    if (netns === undefined) throw new WiringError("NetnsGone", `${path} is no network namespace; is the pod gone?`);
    return netns;
  }

  find(path: string): Netns | undefined {
    return this.#namespaces.get(path);
  }

  addLink(plan: WiringPlan): FakeLink {
    const netns = this.netns(plan.netns);
    const stale = this.#links.get(plan.hostIface);
    const isOldPair = stale !== undefined && netns.ifaces.get(plan.contIface) === stale;
    if (netns.ifaces.has(plan.contIface) && !isOldPair) {
      throw new WiringError("IfaceExists", `Interface ${plan.contIface} already exists in ${plan.netns}`);
    }
    if (stale !== undefined) this.deleteLink(stale);
    const hostIfIndex = this.#nextIfIndex++;
    const link: FakeLink = {
      hostIface: plan.hostIface,
      hostIfIndex,
      contIface: plan.contIface,
      netns: { dev: netns.dev, inode: netns.inode },
      ips: plan.ips,
      contMAC: plan.contMAC ?? parseMAC(`02:00:00:00:00:${(hostIfIndex % 256).toString(16).padStart(2, "0")}`),
      mtuBytes: plan.mtuBytes || 1500,
      routes: plan.routes,
    };
    this.#links.set(link.hostIface, link);
    netns.ifaces.set(link.contIface, link);
    return link;
  }

  deleteLink(link: FakeLink): void {
    this.#links.delete(link.hostIface);
    for (const { ifaces } of this.#namespaces.values()) {
      if (ifaces.get(link.contIface) === link) ifaces.delete(link.contIface);
    }
  }

  /** Somebody else has changed the link's settings, addresses or routes: from now on this is what the kernel has. */
  tamper(hostIface: string, change: (facts: WiringFacts) => WiringFacts): void {
    const link = this.#links.get(hostIface);
    if (link !== undefined) this.#tampered.set(link, change);
  }

  /** @throws WiringError NetnsGone */
  inspect(query: WiringQuery): WiringFacts {
    const inPod = this.netns(query.netns).ifaces.get(query.contIface);
    const onHost = this.#links.get(query.hostIface);
    const facts: WiringFacts = {
      ...(onHost && { hostLink: hostLinkFacts(onHost) }),
      ...(inPod && { contLink: contLinkFacts(inPod) }),
      hostAddrs: onHost !== undefined && hasFamily(onHost.ips, 6) ? [{ ip: GATEWAY[6], prefixLength: 64 }] : [],
      contAddrs: (inPod?.ips ?? []).map((ip) => ({ ip, prefixLength: bitsOf(familyOf(ip)) })),
      contRoutes: inPod === undefined ? [] : contRoutes(inPod),
      hostRoutes: query.ips.map((ip) => this.#hostRoute(ip)),
      hostSysctls: hostSysctls(query, onHost !== undefined),
    };
    const change = onHost === undefined ? undefined : this.#tampered.get(onHost);
    return change === undefined ? facts : change(facts);
  }

  #hostRoute(ip: IP): WiringFacts["hostRoutes"][number] {
    const link = this.links.find(({ ips }) => ips.includes(ip));
    if (link === undefined) return { ip };
    return { ip, route: { dst: hostCIDR(ip), dev: link.hostIface, protocol: ROUTE_PROTOCOL, scope: "link" } };
  }
}

function hasFamily(ips: readonly IP[], family: Family): boolean {
  return ips.some((ip) => familyOf(ip) === family);
}

/** In the pod, the fake gives each interface an index one below its other end's. */
function hostLinkFacts({ hostIfIndex, mtuBytes }: FakeLink): LinkFacts {
  return { ifIndex: hostIfIndex, mac: parseMAC(HOST_MAC), mtuBytes, isUp: true, peerIfIndex: hostIfIndex - 1 };
}

function contLinkFacts({ hostIfIndex, contMAC, mtuBytes }: FakeLink): LinkFacts {
  return { ifIndex: hostIfIndex - 1, mac: contMAC, mtuBytes, isUp: true, peerIfIndex: hostIfIndex };
}

function contRoutes({ contIface: dev, ips, routes }: FakeLink): WiringFacts["contRoutes"] {
  const toGateway = { dst: hostCIDR(GATEWAY[4]), dev, protocol: RTPROT_BOOT, scope: "link" } as const;
  return [
    ...(hasFamily(ips, 4) ? [toGateway] : []),
    ...routes
      .filter((dst) => hasFamily(ips, cidrFamily(dst)))
      .map((dst) => {
        const gateway = GATEWAY[cidrFamily(dst)];
        return { dst, dev, gateway, protocol: RTPROT_BOOT, scope: "universe" } as const;
      }),
  ];
}

function hostSysctls({ hostIface, ips }: WiringQuery, exists: boolean): SysctlFacts[] {
  const paths = [
    ...(hasFamily(ips, 4) ? [`net/ipv4/conf/${hostIface}/proxy_arp`, `net/ipv4/conf/${hostIface}/forwarding`] : []),
    ...(hasFamily(ips, 6) ? [`net/ipv6/conf/${hostIface}/proxy_ndp`, `net/ipv6/conf/${hostIface}/forwarding`] : []),
  ];
  return paths.map((path) => ({ path, expected: "1", ...(exists && { actual: "1" }) }));
}

/** PodWiring over the kernel in memory. Held to the same contract as the real one, `wiring.contract.ts`. */
export class FakeWiring implements PodWiring {
  readonly kernel: FakeKernel;

  constructor(kernel: FakeKernel = new FakeKernel()) {
    this.kernel = kernel;
  }

  async identifyNetns(path: string): Promise<NetnsIdentity> {
    const { dev, inode } = this.kernel.netns(path);
    return { dev, inode };
  }

  async wire(plan: WiringPlan): Promise<WiredPod> {
    const { hostIfIndex, contMAC, mtuBytes } = this.kernel.addLink(plan);
    return { hostIfIndex, contMAC, mtuBytes };
  }

  async unwire(link: { readonly hostIface: string; readonly hostIfIndex: number }): Promise<boolean> {
    const found = this.kernel.linkOf(link.hostIface);
    if (found?.hostIfIndex !== link.hostIfIndex) return false;
    this.kernel.deleteLink(found);
    return true;
  }

  async unwireFromNetns(pod: Parameters<PodWiring["unwireFromNetns"]>[0]): Promise<boolean> {
    const netns = this.kernel.find(pod.netns);
    if (netns?.inode !== pod.identity.inode || netns.dev !== pod.identity.dev) return false;
    const link = netns.ifaces.get(pod.contIface);
    if (link?.hostIface !== pod.hostIface) return false;
    this.kernel.deleteLink(link);
    return true;
  }

  async inspect(query: WiringQuery): Promise<WiringFacts> {
    return this.kernel.inspect(query);
  }
}

// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrFamily, cidrSize } from "../../net/cidr.ts";
import { type Family, formatIP, type IP } from "../../net/ip.ts";
import type { Route } from "../calc/block-routes.ts";
import type { Finding } from "../calc/findings.ts";
import { addressOf, type NodeAddresses } from "../calc/node-addresses.ts";
import type { RouteDelta } from "../calc/state.ts";
import { IPIP_DEVICE, ROUTE_PROTOCOL, VXLAN_DEVICES } from "../ownership.ts";
import type { KernelAddr, KernelLink, KernelRoute } from "../ports.ts";

/** Where desired routes go: the driver. */
export interface RouteSink {
  /** The kernel should have this route. */
  want(key: string, route: KernelRoute): void;
  /** Something belongs there, but what is not known at present: leave whatever the kernel has. */
  hold(key: string): void;
  /** The kernel should have no route of ours there. */
  drop(key: string): void;
}

/** The link that carries this node's own address, over which other nodes are reached. */
export interface ParentLink {
  readonly ifIndex: number;
  readonly name: string;
  readonly prefixLength: number;
}

type Parents = Readonly<Record<Family, ParentLink | { readonly missing: string }>>;

/**
 * Converts routes to the kernel's terms: interfaces to indexes, nodes to a gateway on the parent link or a tunnel's device.
 *
 * Invariants: `on…` methods only record; `completeDeferredWork` converts what they touched and nothing else. A route
 * whose link is missing or down is held, and named by `findings`, until the link is back; so is one to a node that has yet to
 * say its end of the tunnel, which the calculation names. Hazard: an address that
 * leaves its link for a moment (a DHCP renewal) must not take the routes of a whole cluster away; so these are held, too.
 */
export class RouteManager {
  readonly #routes = new Map<string, Route>();
  readonly #dirty = new Set<string>();
  /** Why a route waits, by key. */
  readonly #waiting = new Map<string, string>();
  #links = new Map<number, KernelLink>();
  #addrs: readonly KernelAddr[] = [];
  #local: NodeAddresses | undefined;
  /** The tunnels' devices that are there and up, by name. */
  readonly #tunnels = new Map<string, number>();
  #parents: Parents = { 4: { missing: "links are not listed yet" }, 6: { missing: "links are not listed yet" } };

  onRoutes({ updated, removed }: RouteDelta): void {
    for (const [key, route] of updated) this.#mark(key, route);
    for (const key of removed) this.#mark(key, undefined);
  }

  onLinks(links: readonly KernelLink[], addrs: readonly KernelAddr[]): void {
    this.#links = new Map(links.map((link) => [link.ifIndex, link]));
    this.#addrs = addrs;
    // A pod's link may have come, gone, or changed its state: there are few pods on one node, so look at all of them.
    this.#markAll((route) => route.target.kind === "workload");
    this.#updateParents();
    this.#updateTunnels();
  }

  /** A pod's link that is known to be there and up, between two listings. */
  onWorkloadLink(ifIndex: number, name: string): void {
    this.#links.set(ifIndex, { ifIndex, name, up: true, mtuBytes: 0 });
  }

  onLocalAddresses(local: NodeAddresses | undefined): void {
    if (local === this.#local) return;
    this.#local = local;
    this.#updateParents();
  }

  /** Tells the sink about every destination that was touched. */
  completeDeferredWork(sink: RouteSink): void {
    for (const key of this.#dirty) {
      this.#waiting.delete(key);
      const route = this.#routes.get(key);
      if (route === undefined) {
        sink.drop(key);
        continue;
      }
      const resolved = this.#resolve(route);
      if (typeof resolved === "object") sink.want(key, resolved);
      else sink.hold(key);
      if (typeof resolved === "string") this.#waiting.set(key, resolved);
    }
    this.#dirty.clear();
  }

  /** The parent link, when this node has an address of the family on a link that is up. */
  parent(family: Family): ParentLink | undefined {
    const parent = this.#parents[family];
    return "missing" in parent ? undefined : parent;
  }

  /** The links as last listed. */
  get links(): Iterable<KernelLink> {
    return this.#links.values();
  }

  get addrs(): readonly KernelAddr[] {
    return this.#addrs;
  }

  isUp(ifIndex: number): boolean {
    return this.#links.get(ifIndex)?.up === true;
  }

  linkName(ifIndex: number): string | undefined {
    return this.#links.get(ifIndex)?.name;
  }

  /** Whether a route waits for a link or an address. */
  get isWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** What routes wait for, with their number. */
  findings(): readonly Finding[] {
    const byReason = new Map<string, string[]>();
    for (const [key, reason] of this.#waiting) {
      const keys = byReason.get(reason);
      if (keys === undefined) byReason.set(reason, [key]);
      else keys.push(key);
    }
    return [...byReason].map(([reason, keys]) => {
      const more = keys.length > 1 ? ` and ${keys.length - 1} more` : "";
      const message = `Route to ${keys.toSorted()[0]}${more} waits: ${reason}`;
      return { code: "RouteWaits", subject: reason, message };
    });
  }

  #mark(key: string, route: Route | undefined): void {
    if (route === undefined) this.#routes.delete(key);
    else this.#routes.set(key, route);
    this.#dirty.add(key);
  }

  #markAll(concerns: (route: Route) => boolean): void {
    for (const [key, route] of this.#routes) if (concerns(route)) this.#dirty.add(key);
  }

  #updateParents(): void {
    const previous = this.#parents;
    this.#parents = {
      4: findParent(4, this.#local, this.#links, this.#addrs),
      6: findParent(6, this.#local, this.#links, this.#addrs),
    };
    for (const family of [4, 6] as const) {
      if (sameParent(previous[family], this.#parents[family])) continue;
      this.#markAll((route) => route.target.kind === "remote" && cidrFamily(route.dst) === family);
    }
  }

  #updateTunnels(): void {
    const links = [...this.#links.values()];
    for (const device of [IPIP_DEVICE, ...Object.values(VXLAN_DEVICES)]) {
      const ifIndex = links.find(({ name, up }) => up && name === device)?.ifIndex;
      if (ifIndex === this.#tunnels.get(device)) continue;
      if (ifIndex === undefined) this.#tunnels.delete(device);
      else this.#tunnels.set(device, ifIndex);
      this.#markAll((route) => tunnelOf(route) === device);
    }
  }

  /** Returns the reason when the route cannot be said in the kernel's terms at present; undefined: others tell it. */
  #resolve({ dst, target }: Route): KernelRoute | string | undefined {
    const base = { dst, metric: 0, protocol: ROUTE_PROTOCOL } as const;
    const family = cidrFamily(dst);
    switch (target.kind) {
      case "blackhole":
        return { ...base, type: "blackhole", onlink: false, scope: "universe" };
      case "workload": {
        if (target.hostIfIndex === 0) return undefined;
        const link = this.#links.get(target.hostIfIndex);
        const name = `link ${target.hostIface} (index ${target.hostIfIndex})`;
        if (link?.name !== target.hostIface) return `${name} is missing`;
        if (!link.up) return `${name} is down`;
        const scope = family === 4 ? "link" : "universe";
        return { ...base, type: "unicast", ifIndex: link.ifIndex, onlink: false, scope };
      }
      case "remote": {
        const parent = this.#parents[family];
        if ("missing" in parent) return parent.missing;
        const { gateway } = target;
        return { ...base, type: "unicast", ifIndex: parent.ifIndex, gateway, onlink: true, scope: "universe" };
      }
      case "ipip": {
        const ifIndex = this.#tunnels.get(IPIP_DEVICE);
        if (ifIndex === undefined) return `link ${IPIP_DEVICE} is missing or down`;
        return { ...base, type: "unicast", ifIndex, gateway: target.gateway, onlink: true, scope: "universe" };
      }
      case "vxlan": {
        const { tunnelIP } = target;
        if (tunnelIP === undefined) return undefined;
        const ifIndex = this.#tunnels.get(VXLAN_DEVICES[family]);
        if (ifIndex === undefined) return `link ${VXLAN_DEVICES[family]} is missing or down`;
        const vxlan = { ...base, type: "unicast", ifIndex } as const;
        if (isJust(dst, tunnelIP)) return { ...vxlan, onlink: false, scope: family === 4 ? "link" : "universe" };
        return { ...vxlan, gateway: tunnelIP, onlink: true, scope: "universe" };
      }
      default:
        return target satisfies never;
    }
  }
}

/** The device that a route leads through; undefined: none. */
function tunnelOf({ dst, target }: Route): string | undefined {
  if (target.kind === "ipip") return IPIP_DEVICE;
  return target.kind === "vxlan" ? VXLAN_DEVICES[cidrFamily(dst)] : undefined;
}

/** The other end itself, out of a block of one address or borrowed, is no gateway to itself. Source: calico-interop 4.2. */
function isJust(dst: CIDR, ip: IP): boolean {
  return cidrSize(dst) === 1 && dst.network === ip;
}

function findParent(
  family: Family,
  local: NodeAddresses | undefined,
  links: ReadonlyMap<number, KernelLink>,
  addrs: readonly KernelAddr[],
): Parents[Family] {
  if (local === undefined) return { missing: "this node's Node object is missing" };
  const address = addressOf(local, family);
  if (address === undefined) return { missing: `this node has no IPv${family} address (InternalIP of its Node)` };
  let down: string | undefined;
  // By index, so that the choice is the same each time; an address on lo leads nowhere.
  for (const addr of addrs.toSorted((a, b) => a.ifIndex - b.ifIndex)) {
    const link = links.get(addr.ifIndex);
    if (addr.ip !== address.ip || link === undefined || link.name === "lo") continue;
    if (link.up) return { ifIndex: link.ifIndex, name: link.name, prefixLength: addr.prefixLength };
    down ??= `link ${link.name}, which carries this node's address ${formatIP(address.ip)}, is down`;
  }
  return { missing: down ?? `no link of this node carries its address ${formatIP(address.ip)} (${address.method})` };
}

function sameParent(a: Parents[Family], b: Parents[Family]): boolean {
  if ("missing" in a || "missing" in b) return "missing" in a && "missing" in b && a.missing === b.missing;
  return a.ifIndex === b.ifIndex;
}

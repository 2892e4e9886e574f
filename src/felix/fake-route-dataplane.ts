// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrContains, cidrOf } from "../net/cidr.ts";
import { type Family, familyOf, type IP } from "../net/ip.ts";
import { routeKey, sameKernelRoute } from "./kernel-route.ts";
import { ROUTE_PROTOCOL } from "./ownership.ts";
import type { KernelAddr, KernelChange, KernelLink, KernelRoute, RouteDataplane, RouteResult } from "./ports.ts";

/**
 * The main table as maps, with the few habits of the kernel that Felix depends on. It passes
 * `route-dataplane.contract.ts`, which the real one passes, too.
 *
 * `put` and `remove` are what others do to the table, and are told to whoever watches. `writes` and `deletes` are what was asked through the port.
 */
export class FakeRouteDataplane implements RouteDataplane {
  readonly writes: KernelRoute[] = [];
  readonly deletes: KernelRoute[] = [];
  listings = 0;
  /** Makes a write or deletion fail. */
  refuse: ((route: KernelRoute) => Error | undefined) | undefined;
  /** Runs inside each call, before it looks at anything: a place to fail or to change the world. */
  onCall: ((call: "listRoutes" | "listLinks" | "listAddrs" | "replaceRoutes" | "deleteRoutes") => void) | undefined;
  readonly #routes = new Map<string, KernelRoute>();
  readonly #links = new Map<number, KernelLink>();
  #addrs: KernelAddr[] = [];
  #nextIfIndex = 2;
  #isQuiet = false;
  readonly #watchers = new Set<(change: KernelChange) => void>();

  get routes(): readonly KernelRoute[] {
    return [...this.#routes.values()];
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  addLink(name: string, address?: { readonly ip: IP; readonly prefixLength: number }, index?: number): number {
    const ifIndex = index ?? this.#nextIfIndex;
    this.#nextIfIndex = Math.max(this.#nextIfIndex, ifIndex) + 1;
    this.#links.set(ifIndex, { ifIndex, name, up: true, mtuBytes: 1500 });
    this.#tell("link");
    if (address !== undefined) this.addAddr(ifIndex, address.ip, address.prefixLength);
    return ifIndex;
  }

  /** The kernel drops the routes of a link that goes down, those of IPv4 without a word. */
  setUp(ifIndex: number, up: boolean): void {
    const link = this.#links.get(ifIndex);
    if (link === undefined) throw new RangeError(`No link with index ${ifIndex}`);
    this.#links.set(ifIndex, { ...link, up });
    if (!up) this.#dropRoutesOf(ifIndex);
    this.#tellOfLink("link", link);
  }

  deleteLink(ifIndex: number): void {
    const link = this.#links.get(ifIndex);
    this.#links.delete(ifIndex);
    this.#addrs = this.#addrs.filter((addr) => addr.ifIndex !== ifIndex);
    this.#dropRoutesOf(ifIndex);
    this.#tellOfLink("link", link);
  }

  addAddr(ifIndex: number, ip: IP, prefixLength: number): void {
    this.#addrs.push({ ifIndex, ip, prefixLength });
    this.#tellOfLink("addr", this.#links.get(ifIndex));
  }

  deleteAddr(ifIndex: number, ip: IP): void {
    const family = familyOf(ip);
    const had = this.#addrs.length;
    this.#addrs = this.#addrs.filter((addr) => addr.ifIndex !== ifIndex || addr.ip !== ip);
    const isLast = !this.#addrs.some((addr) => addr.ifIndex === ifIndex && familyOf(addr.ip) === family);
    // Without an address of IPv4 a link has no routes of it.
    if (had > this.#addrs.length && isLast && family === 4) this.#dropRoutesOf(ifIndex, [4]);
    this.#tellOfLink("addr", this.#links.get(ifIndex));
  }

  /** Makes a link, or changes the one that is there. */
  putLink(link: KernelLink): void {
    this.#links.set(link.ifIndex, link);
    this.#nextIfIndex = Math.max(this.#nextIfIndex, link.ifIndex + 1);
    this.#tellOfLink("link", link);
  }

  linkOf(ifIndex: number): KernelLink | undefined {
    return this.#links.get(ifIndex);
  }

  linkNamed(name: string): KernelLink | undefined {
    return [...this.#links.values()].find((link) => link.name === name);
  }

  get nextIfIndex(): number {
    return this.#nextIfIndex;
  }

  addrsOf(ifIndex: number): readonly KernelAddr[] {
    return this.#addrs.filter((addr) => addr.ifIndex === ifIndex);
  }

  /** Tells whoever watches of a change of tunnel entries. */
  tellNeigh(): void {
    this.#tell("neigh");
  }

  put(route: KernelRoute): void {
    this.#routes.set(routeKey(route), route);
    // A new route of ours is an ADD's, which nobody needs to look at.
    if (route.protocol !== ROUTE_PROTOCOL) this.#tell("route");
  }

  remove(dst: CIDR, metric = 0): void {
    const key = routeKey({ dst, metric });
    const route = this.#routes.get(key);
    if (route === undefined) throw new RangeError(`No route ${key}`);
    this.#routes.delete(key);
    this.#tell("route");
  }

  overrun(): void {
    this.#tell("overrun");
  }

  async listRoutes(family: Family): Promise<readonly KernelRoute[]> {
    this.onCall?.("listRoutes");
    this.listings++;
    return [...this.#routes.values()].filter((route) => familyOf(route.dst.network) === family);
  }

  async listLinks(): Promise<readonly KernelLink[]> {
    this.onCall?.("listLinks");
    return [...this.#links.values()];
  }

  async listAddrs(): Promise<readonly KernelAddr[]> {
    this.onCall?.("listAddrs");
    return [...this.#addrs];
  }

  async replaceRoutes(routes: readonly KernelRoute[]): Promise<readonly RouteResult[]> {
    this.onCall?.("replaceRoutes");
    return routes.map((route) => {
      this.writes.push(route);
      const error = this.#reasonToRefuse(route);
      if (error !== undefined) return { route, error };
      this.#routes.set(routeKey(route), route);
      return { route };
    });
  }

  async deleteRoutes(routes: readonly KernelRoute[]): Promise<readonly RouteResult[]> {
    this.onCall?.("deleteRoutes");
    return routes.map((route) => {
      this.deletes.push(route);
      const error = this.refuse?.(route);
      if (error !== undefined) return { route, error };
      const actual = this.#routes.get(routeKey(route));
      if (actual !== undefined && sameKernelRoute(actual, route)) this.#routes.delete(routeKey(route));
      return { route };
    });
  }

  watch(onChange: (change: KernelChange) => void): () => void {
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }

  #reasonToRefuse(route: KernelRoute): Error | undefined {
    const refused = this.refuse?.(route);
    if (refused !== undefined || route.type === "blackhole") return refused;
    const link = this.#links.get(route.ifIndex ?? 0);
    if (link === undefined) return new Error("RTM_NEWROUTE failed with ENODEV");
    if (!link.up) return new Error("RTM_NEWROUTE failed with ENETDOWN");
    const { gateway } = route;
    if (gateway === undefined || route.onlink) return undefined;
    const isOnLink = this.#addrs.some(
      (addr) => addr.ifIndex === link.ifIndex && cidrContains(cidrOf(addr.ip, addr.prefixLength), gateway),
    );
    return isOnLink ? undefined : new Error("RTM_NEWROUTE failed with ENETUNREACH: Nexthop has invalid gateway");
  }

  #dropRoutesOf(ifIndex: number, families: readonly Family[] = [4, 6]): void {
    for (const [key, route] of this.#routes) {
      if (route.ifIndex !== ifIndex || !families.includes(familyOf(route.dst.network))) continue;
      this.#routes.delete(key);
      if (familyOf(route.dst.network) === 6) this.#tell("route");
    }
  }

  /** What the kernel does when others switch forwarding off. */
  tellOfForwarding(): void {
    this.#tell("forwarding");
  }

  /** What the kernel does when others switch off what one link has. */
  tellOfLinkSetting(): void {
    this.#tell("linkSetting");
  }

  /** Lets the world change without a notification. */
  quiet(change: () => void): void {
    this.#isQuiet = true;
    change();
    this.#isQuiet = false;
  }

  #tellOfLink(kind: "link" | "addr", link: KernelLink | undefined): void {
    this.#tell(link?.vxlan === undefined && link?.ipip === undefined ? kind : "tunnel");
  }

  #tell(kind: KernelChange["kind"]): void {
    if (this.#isQuiet) return;
    for (const watcher of this.#watchers) watcher({ kind });
  }
}

// SPDX-License-Identifier: Apache-2.0
import { cidrFamily } from "../../net/cidr.ts";
import { type Family, formatIP } from "../../net/ip.ts";
import { formatKernelRoute, routeKey, sameKernelRoute } from "../kernel-route.ts";
import { entryKey, formatEntry } from "../managers/vxlan-manager.ts";
import type {
  DeviceChange,
  KernelAddr,
  KernelLink,
  KernelRoute,
  RouteDataplane,
  RouteResult,
  TunnelDataplane,
  TunnelEntry,
  VXLANDevice,
} from "../ports.ts";
import type { PlannedArea } from "./ports.ts";

/** Far above what the kernel gives, so that nothing real is ever meant. */
const FIRST_PLANNED_INDEX = 1_000_000_000;

/**
 * A kernel that is only read: changes are told to `record`, and from then on shown as if they were there. So a driver that
 * reads back what it wrote is content, and what stands on a planned device is planned, too.
 *
 * Invariant: no method of the real kernel is called but those that list.
 */
export class PlannedKernel implements RouteDataplane, TunnelDataplane {
  readonly #real: { readonly routes: RouteDataplane; readonly tunnels: Pick<TunnelDataplane, "listEntries"> };
  readonly #record: (area: PlannedArea, text: string) => void;
  /** Routes that differ from the real ones, by key; undefined: it is gone. */
  readonly #routes = new Map<string, KernelRoute | undefined>();
  readonly #links = new Map<number, KernelLink | undefined>();
  readonly #addrs = new Map<string, KernelAddr | undefined>();
  readonly #entries = new Map<string, TunnelEntry | undefined>();
  readonly #names = new Map<number, string>();
  #nextIfIndex = FIRST_PLANNED_INDEX;

  constructor(
    real: { readonly routes: RouteDataplane; readonly tunnels: Pick<TunnelDataplane, "listEntries"> },
    record: (area: PlannedArea, text: string) => void,
  ) {
    this.#real = real;
    this.#record = record;
  }

  async listRoutes(family: Family): Promise<readonly KernelRoute[]> {
    const planned = [...this.#routes.values()].filter((route) => route !== undefined);
    return [
      ...(await this.#real.routes.listRoutes(family)).filter((route) => !this.#routes.has(routeKey(route))),
      ...planned.filter(({ dst }) => cidrFamily(dst) === family),
    ];
  }

  async listLinks(): Promise<readonly KernelLink[]> {
    const real = await this.#real.routes.listLinks();
    for (const { ifIndex, name } of real) this.#names.set(ifIndex, name);
    return overlay(real, this.#links, ({ ifIndex }) => ifIndex);
  }

  async listAddrs(): Promise<readonly KernelAddr[]> {
    return overlay(await this.#real.routes.listAddrs(), this.#addrs, addrKey);
  }

  async replaceRoutes(routes: readonly KernelRoute[]): Promise<readonly RouteResult[]> {
    return routes.map((route) => {
      this.#routes.set(routeKey(route), route);
      this.#record("route", `ip route replace ${this.#format(route)}`);
      return { route };
    });
  }

  async deleteRoutes(routes: readonly KernelRoute[]): Promise<readonly RouteResult[]> {
    return routes.map((route) => {
      const planned = this.#routes.get(routeKey(route));
      // A route of another takes its place, and stays.
      if (planned !== undefined && !sameKernelRoute(planned, route)) return { route };
      this.#routes.set(routeKey(route), undefined);
      this.#record("route", `ip route delete ${this.#format(route)}`);
      return { route };
    });
  }

  watch(onChange: Parameters<RouteDataplane["watch"]>[0]): () => void {
    return this.#real.routes.watch(onChange);
  }

  async changeDevice(change: DeviceChange): Promise<void> {
    switch (change.kind) {
      case "create":
        this.#create(change.device);
        return;
      case "createIPIP": {
        const ifIndex = this.#nextIfIndex++;
        this.#record("link", `ip link add ${change.name} type ipip`);
        this.#links.set(ifIndex, { ifIndex, name: change.name, up: false, mtuBytes: 0, ipip: {} });
        this.#names.set(ifIndex, change.name);
        return;
      }
      case "down":
        this.#record("link", `ip link set ${this.#nameOf(change.ifIndex)} down`);
        await this.#changeLink(change.ifIndex, { up: false });
        return;
      case "delete":
        this.#record("link", `ip link delete ${this.#nameOf(change.ifIndex)}`);
        this.#links.set(change.ifIndex, undefined);
        return;
      case "set": {
        const { ifIndex, mtuBytes, mac } = change;
        const address = mac === undefined ? "" : ` address ${mac}`;
        this.#record("link", `ip link set ${this.#nameOf(ifIndex)} up mtu ${mtuBytes}${address}`);
        await this.#changeLink(ifIndex, { up: true, mtuBytes, ...(mac !== undefined && { mac }) });
        return;
      }
      case "addAddr":
      case "deleteAddr": {
        const { kind, ifIndex, ip, prefixLength } = change;
        const verb = kind === "addAddr" ? "add" : "delete";
        this.#record("address", `ip addr ${verb} ${formatIP(ip)}/${prefixLength} dev ${this.#nameOf(ifIndex)}`);
        const addr = { ifIndex, ip, prefixLength };
        this.#addrs.set(addrKey(addr), kind === "addAddr" ? addr : undefined);
        return;
      }
      default:
        change satisfies never;
    }
  }

  async listEntries(ifIndex: number): Promise<readonly TunnelEntry[]> {
    // The kernel does not know a device that is only planned.
    const real = ifIndex >= FIRST_PLANNED_INDEX ? [] : await this.#real.tunnels.listEntries(ifIndex);
    const ofDevice = new Map([...this.#entries].filter(([key]) => key.startsWith(`${ifIndex} `)));
    return overlay(real, ofDevice, ownKey);
  }

  async replaceEntries(entries: readonly TunnelEntry[]): Promise<readonly (Error | undefined)[]> {
    return entries.map((entry) => this.#plan(entry, "replace", entry));
  }

  async deleteEntries(entries: readonly TunnelEntry[]): Promise<readonly (Error | undefined)[]> {
    return entries.map((entry) => this.#plan(entry, "delete", undefined));
  }

  async #changeLink(ifIndex: number, change: Partial<KernelLink>): Promise<void> {
    const link = (await this.listLinks()).find((known) => known.ifIndex === ifIndex);
    if (link !== undefined) this.#links.set(ifIndex, { ...link, ...change });
  }

  #plan(entry: TunnelEntry, verb: string, next: TunnelEntry | undefined): undefined {
    this.#entries.set(ownKey(entry), next);
    this.#record("neighbour", `${verb} ${formatEntry(entry)} dev ${this.#nameOf(entry.ifIndex)}`);
  }

  #create({ name, mac, vni, port, localIP, parentIfIndex, learning, ...rest }: VXLANDevice): void {
    const ifIndex = this.#nextIfIndex++;
    const { mtuBytes } = rest;
    const parent = this.#nameOf(parentIfIndex);
    const what = `id ${vni} dstport ${port} local ${formatIP(localIP)} dev ${parent} ${learning ? "" : "no"}learning`;
    this.#record("link", `ip link add ${name} address ${mac} mtu ${mtuBytes} up type vxlan ${what}`);
    const vxlan = { vni, port, localIP, parentIfIndex, learning };
    this.#links.set(ifIndex, { ifIndex, name, up: true, mtuBytes, mac, vxlan });
    this.#names.set(ifIndex, name);
  }

  #format(route: KernelRoute): string {
    return formatKernelRoute(route, (ifIndex) => this.#nameOf(ifIndex)) + (route.onlink ? " onlink" : "");
  }

  #nameOf(ifIndex: number): string {
    return this.#names.get(ifIndex) ?? `#${ifIndex}`;
  }
}

function overlay<K, V>(
  real: readonly V[],
  planned: ReadonlyMap<K, V | undefined>,
  keyOf: (value: V) => K,
): readonly V[] {
  const kept = real.filter((value) => !planned.has(keyOf(value)));
  return [...kept, ...[...planned.values()].filter((value) => value !== undefined)];
}

function addrKey({ ifIndex, ip, prefixLength }: KernelAddr): string {
  return `${ifIndex} ${formatIP(ip)}/${prefixLength}`;
}

function ownKey(entry: TunnelEntry): string {
  return `${entry.ifIndex} ${entryKey(entry)}`;
}

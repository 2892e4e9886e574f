// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import { type EffectiveIPPool, effectiveIPPool, type IPPool } from "../../crds/ip-pool.ts";
import { parseCIDR } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";
import type { AllowedSource, FilterContents } from "../nft/elements.ts";
import { IPIP, type Tunnel, type TunnelSettings, vxlanTunnel } from "../nft/settings.ts";
import type { WorkloadEndpoint } from "../ports.ts";
import { overridden } from "./encapsulations.ts";
import { REMOTE_METHODS, resolveNodeAddresses } from "./node-addresses.ts";

/**
 * Gathers what the packet filter depends on.
 *
 * Invariants: `version` is another one after each change that matters and only then, so an endpoint like any other costs
 * nothing; what is said depends on the present content alone.
 */
export class FilterState {
  readonly #pools = new Map<string, EffectiveIPPool>();
  readonly #nodes = new Map<string, readonly IP[]>();
  /** By the attachment's key; only of endpoints that have any. */
  readonly #allowedSources = new Map<string, readonly AllowedSource[]>();
  #version = 0;

  get version(): number {
    return this.#version;
  }

  /** A malformed pool counts as absent; `CalcState` tells of it. */
  setPool(object: IPPool): void {
    const { name } = object.metadata;
    try {
      const pool = effectiveIPPool(object);
      if (!isSamePool(this.#pools.get(name), pool)) this.#version++;
      this.#pools.set(name, pool);
    } catch {
      this.deletePool(name);
    }
  }

  deletePool(name: string): void {
    if (this.#pools.delete(name)) this.#version++;
  }

  setNode(object: Node): void {
    const { name } = object.metadata;
    const { ipv4, ipv6 } = resolveNodeAddresses(object, REMOTE_METHODS);
    const ips = [ipv4, ipv6].flatMap((address) => (address === undefined ? [] : [address.ip]));
    if (ips.join() === this.#nodes.get(name)?.join()) return;
    this.#nodes.set(name, ips);
    this.#version++;
  }

  deleteNode(name: string): void {
    if (this.#nodes.delete(name)) this.#version++;
  }

  /** What is no CIDR allows nothing. */
  setEndpoint({ key, hostIface, allowedSourcePrefixes = [] }: WorkloadEndpoint): void {
    if (allowedSourcePrefixes.length === 0 && !this.#allowedSources.has(key)) return;
    const allowed = allowedSourcePrefixes.flatMap((text) => {
      const prefix = attempt(() => parseCIDR(text));
      return prefix === undefined ? [] : [{ hostIface, prefix }];
    });
    this.#version++;
    if (allowed.length === 0) this.#allowedSources.delete(key);
    else this.#allowedSources.set(key, allowed);
  }

  deleteEndpoint(key: string): void {
    if (this.#allowedSources.delete(key)) this.#version++;
  }

  /** Whether any pool wants to be masqueraded. */
  get hasNAT(): boolean {
    return [...this.#pools.values()].some(({ natOutgoing }) => natOutgoing);
  }

  /** Encapsulations that any pool uses, be it disabled: its addresses keep their way. Source: calico-interop 4.4. */
  tunnels({ vxlanPort, encapsulation = {} }: TunnelSettings = {}): readonly Tunnel[] {
    const asked = [...this.#pools.values()].flatMap(({ family, vxlanMode, ipipMode }) => [
      ...(vxlanMode === "Never" ? [] : [`vxlan ${family}` as const]),
      ...(ipipMode === "Never" ? [] : [`ipip ${family}` as const]),
    ]);
    const used = overridden(asked, encapsulation);
    return [
      ...([4, 6] as const)
        .filter((family) => used.has(`vxlan ${family}`))
        .map((family) => vxlanTunnel(family, vxlanPort)),
      ...(used.has("ipip 4") ? [IPIP] : []),
    ];
  }

  /**
   * What belongs into the sets. A disabled pool counts like any other, and so keeps the NAT of the addresses that it has
   * given; a pool for Services alone has no pods behind it. Source: calico-interop 4.9.
   *
   * @param hasNodes whether a rule asks for the nodes' addresses
   */
  contents(hasNodes: boolean): FilterContents {
    const pools = [...this.#pools.values()];
    return {
      natPools: pools.filter(({ natOutgoing }) => natOutgoing).map(({ cidr }) => cidr),
      allPools: pools.filter(hasWorkloads).map(({ cidr }) => cidr),
      nodes: hasNodes ? [...this.#nodes.values()].flat() : [],
      allowedSources: [...this.#allowedSources.values()].flat(),
    };
  }
}

function attempt<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}

function hasWorkloads({ allowedUses }: EffectiveIPPool): boolean {
  return allowedUses.some((use) => use !== "LoadBalancer");
}

function isSamePool(a: EffectiveIPPool | undefined, b: EffectiveIPPool): boolean {
  return (
    a !== undefined &&
    a.cidr.network === b.cidr.network &&
    a.cidr.prefixLength === b.cidr.prefixLength &&
    a.natOutgoing === b.natOutgoing &&
    a.vxlanMode === b.vxlanMode &&
    a.ipipMode === b.ipipMode &&
    hasWorkloads(a) === hasWorkloads(b)
  );
}

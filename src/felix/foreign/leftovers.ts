// SPDX-License-Identifier: Apache-2.0

import { ROUTE_PROTOCOL, WORKLOAD_IFACE_PREFIX } from "../ownership.ts";
import type { KernelLink, KernelRoute } from "../ports.ts";
import type { ChainName, ForeignFacts } from "./ports.ts";

/** What an agent of Calico's that is gone has made. Source: calico-interop 4.2, 4.4, 4.12. */
export interface Leftovers {
  /** To pods that Calico's plugin made: they have their network as long as these are there. */
  readonly podRoutes: readonly KernelRoute[];
  /** Its own tables, `FAMILY NAME`. */
  readonly tables: readonly string[];
  /** Its chains in the tables of iptables. */
  readonly chains: readonly ChainName[];
  /** Tunnels that this agent does not use. */
  readonly devices: readonly KernelLink[];
}

/** deviceRouteProtocol of Calico, unless somebody has set another one: RTPROT_BOOT. */
const RTPROT_BOOT = 3;
const TABLE = "calico";
const CHAIN_PREFIX = "cali-";
const WIREGUARD: readonly string[] = ["wireguard.cali", "wg-v6.cali"];

/**
 * Finds them by Calico's names. VXLAN devices are not among them: this agent takes those over, and removes what no pool
 * needs. `tunl0` comes by itself with the kernel's module, without an address.
 */
export function calicoLeftovers({
  routes,
  chains,
  links,
  addrs,
}: Pick<ForeignFacts, "routes" | "chains" | "links" | "addrs">): Leftovers {
  const names = new Map(links.map(({ ifIndex, name }) => [ifIndex, name]));
  // A pod of ours has a route of ours; what else somebody routes to it is that somebody's.
  const ours = new Set(routes.filter(({ protocol }) => protocol === ROUTE_PROTOCOL).map(({ ifIndex }) => ifIndex));
  const isPod = ({ ifIndex }: KernelRoute): boolean =>
    ifIndex !== undefined && !ours.has(ifIndex) && names.get(ifIndex)?.startsWith(WORKLOAD_IFACE_PREFIX) === true;
  return {
    podRoutes: routes.filter((route) => route.protocol === RTPROT_BOOT && isPod(route)),
    tables: [...new Set(chains.flatMap(({ family, table }) => (table === TABLE ? [`${family} ${table}`] : [])))],
    chains: chains.filter(({ table, chain }) => table !== TABLE && chain.startsWith(CHAIN_PREFIX)),
    devices: links.filter(
      ({ name, ifIndex }) =>
        WIREGUARD.includes(name) || (name === "tunl0" && addrs.some((addr) => addr.ifIndex === ifIndex)),
    ),
  };
}

/**
 * Renders the script that takes Calico's chains out of a table of iptables: first the rules that lead there, then the chains.
 *
 * @param jumps rules of other chains, as `parseJumps` finds them
 */
export function renderChainRemoval(
  { family, table }: Pick<ChainName, "family" | "table">,
  names: readonly string[],
  jumps: readonly { readonly chain: string; readonly handle: number }[],
): string {
  const lines = [
    ...jumps
      .filter(({ chain }) => !names.includes(chain))
      .map(({ chain, handle }) => `delete rule ${family} ${table} ${chain} handle ${handle}`),
    ...names.map((name) => `flush chain ${family} ${table} ${name}`),
    ...names.map((name) => `delete chain ${family} ${table} ${name}`),
  ];
  return lines.map((line) => `${line}\n`).join("");
}

/** In words, without what there is none of. */
export function describeLeftovers({ podRoutes, tables, chains, devices }: Leftovers): readonly string[] {
  return [
    ...(podRoutes.length > 0 ? [`routes of protocol 3 to pods that its plugin made (${podRoutes.length})`] : []),
    ...tables.map((table) => `table ${table} of nftables`),
    ...(chains.length > 0 ? [`chains ${CHAIN_PREFIX}* of iptables (${chains.length})`] : []),
    ...devices.map(({ name }) => `device ${name}`),
  ];
}

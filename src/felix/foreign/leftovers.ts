// SPDX-License-Identifier: Apache-2.0
import { formatCIDR } from "../../net/cidr.ts";
import { ROUTE_PROTOCOL, VXLAN_DEVICES, WORKLOAD_IFACE_PREFIX } from "../ownership.ts";
import type { KernelLink, KernelRoute } from "../ports.ts";
import type { ChainName, ForeignFacts, LegacyFamily } from "./ports.ts";

/** What an agent of Calico's that is gone has made. Source: calico-interop 4.2, 4.4, 4.12. */
export interface Leftovers {
  /** To pods that our own routes lead to, and win: these were adopted, or Calico's agent ran here after us. */
  readonly spareRoutes: readonly KernelRoute[];
  /** To blocks of other nodes that are none any more: once our routes are there, they have taken the places of all others. */
  readonly staleRoutes: readonly KernelRoute[];
  /** Its own tables, `FAMILY NAME`. */
  readonly tables: readonly string[];
  /** Its chains in the tables of iptables. */
  readonly chains: readonly ChainName[];
  /** Families whose legacy iptables have its chains. */
  readonly legacy: readonly LegacyFamily[];
  /** Tunnels that this agent does not use. */
  readonly devices: readonly KernelLink[];
}

/** deviceRouteProtocol of Calico, unless somebody has set another one: RTPROT_BOOT. */
const RTPROT_BOOT = 3;
const POD_ROUTE_METRIC = 1024;
const TABLES: readonly string[] = ["calico", "calico-arp"];
const CHAIN_PREFIX = "cali-";
const TUNNELS: readonly string[] = Object.values(VXLAN_DEVICES);
const WIREGUARD: readonly string[] = ["wireguard.cali", "wg-v6.cali"];

/**
 * Finds them by Calico's names. VXLAN devices and the address of `tunl0` are not among them: this agent takes those over, and
 * removes what no pool needs.
 * A route to a pod that has none of ours stays, too: it goes with the pod's link, and until then the pod has its network by it.
 */
export function calicoLeftovers({
  routes,
  chains,
  links,
  legacyCalico,
}: Pick<ForeignFacts, "routes" | "chains" | "links" | "legacyCalico">): Leftovers {
  const names = new Map(links.map(({ ifIndex, name }) => [ifIndex, name]));
  const ours = routes.filter(({ protocol }) => protocol === ROUTE_PROTOCOL);
  const ourPods = new Set(ours.map(({ dst, ifIndex }) => `${formatCIDR(dst)} ${ifIndex}`));
  const ourLinks = new Set(ours.map(({ ifIndex }) => ifIndex));
  const toPods = routes.filter(
    ({ protocol, ifIndex }) =>
      protocol === RTPROT_BOOT && ifIndex !== undefined && names.get(ifIndex)?.startsWith(WORKLOAD_IFACE_PREFIX),
  );
  return {
    spareRoutes: toPods.filter(
      ({ dst, ifIndex, metric }) => metric === POD_ROUTE_METRIC && ourPods.has(`${formatCIDR(dst)} ${ifIndex}`),
    ),
    staleRoutes: routes.filter(
      ({ protocol, ifIndex = 0 }) =>
        protocol === RTPROT_BOOT && TUNNELS.includes(names.get(ifIndex) ?? "") && ourLinks.has(ifIndex),
    ),
    tables: [...new Set(chains.flatMap(({ family, table }) => (TABLES.includes(table) ? [`${family} ${table}`] : [])))],
    chains: chains.filter(({ table, chain }) => !TABLES.includes(table) && chain.startsWith(CHAIN_PREFIX)),
    legacy: legacyCalico,
    devices: links.filter(({ name }) => WIREGUARD.includes(name)),
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
export function describeLeftovers(leftovers: Leftovers): readonly string[] {
  const { spareRoutes, staleRoutes, tables, chains, legacy, devices } = leftovers;
  return [
    ...(spareRoutes.length > 0 ? [`routes of protocol 3 beside ours (${spareRoutes.length})`] : []),
    ...(staleRoutes.length > 0 ? [`routes of protocol 3 into the tunnel (${staleRoutes.length})`] : []),
    ...tables.map((table) => `table ${table} of nftables`),
    ...(chains.length > 0 ? [`chains ${CHAIN_PREFIX}* of iptables (${chains.length})`] : []),
    ...legacy.map((family) => `chains ${CHAIN_PREFIX}* of legacy iptables (${family})`),
    ...devices.map(({ name }) => `device ${name}`),
  ];
}

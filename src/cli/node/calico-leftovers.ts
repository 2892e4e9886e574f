// SPDX-License-Identifier: Apache-2.0
import { hasCalicoAgent } from "../../felix/foreign/judge.ts";
import { calicoLeftovers, renderChainRemoval } from "../../felix/foreign/leftovers.ts";
import { renderLegacyRemoval } from "../../felix/foreign/legacy.ts";
import { parseJumps } from "../../felix/foreign/nft-json.ts";
import type { ChainName, ForeignPort } from "../../felix/foreign/ports.ts";
import { formatKernelRoute } from "../../felix/kernel-route.ts";
import type { PacketFilterPort } from "../../felix/nft/ports.ts";
import type { KernelRoute } from "../../felix/ports.ts";
import type { Kernel } from "../../netlink/kernel.ts";
import { RefusedError } from "../errors.ts";

/** Something to remove: what it is, and how. */
export interface Removal {
  readonly what: string;
  /** Not done when anything before it failed. */
  readonly isLast?: boolean;
  remove(): Promise<void>;
}

/**
 * Plans to remove what an agent of Calico's has left on this node.
 *
 * @throws RefusedError while that agent runs; NetlinkError
 */
export async function planLeftovers(
  foreign: ForeignPort,
  kernel: Kernel,
  filter: PacketFilterPort,
  { force }: { readonly force: boolean },
): Promise<readonly Removal[]> {
  const facts = await foreign.read();
  if (!force && hasCalicoAgent(facts))
    throw new RefusedError(
      "Calico's agent runs on this node, so nothing of it is left over: take the node out of its DaemonSet first; --force removes all the same",
    );
  const { spareRoutes, staleRoutes, tables, chains, legacy, devices } = calicoLeftovers(facts);
  const nameOf = (ifIndex: number): string | undefined => facts.links.find((link) => link.ifIndex === ifIndex)?.name;
  const byTable = Map.groupBy(chains, ({ family, table }) => `${family} ${table}`);
  return [
    ...spareRoutes.map((route) => ({
      what: `route ${formatKernelRoute(route, nameOf)}; ours to the same pod stays`,
      remove: () => deleteRoute(kernel, route),
    })),
    ...staleRoutes.map((route) => ({
      what: `route ${formatKernelRoute(route, nameOf)}; no block is there any more`,
      remove: () => deleteRoute(kernel, route),
    })),
    ...tables.map((table) => ({
      what: `table ${table} of nftables`,
      remove: () => filter.apply(`delete table ${table}\n`),
    })),
    ...[...byTable].map(([name, found]) => ({
      what: `${found.length} chains cali-* in table ${name}, and the rules that lead there`,
      remove: async () => await filter.apply(await chainRemoval(found, foreign)),
    })),
    ...legacy.map((family) => ({
      what: `chains cali-* of legacy iptables (${family}), and the rules that lead there`,
      remove: async () => {
        const script = renderLegacyRemoval(await foreign.saveLegacy(family));
        if (script !== "") await foreign.restoreLegacy(family, script);
      },
    })),
    ...devices.map(({ name, ifIndex }) => ({
      what: `device ${name}`,
      remove: () => kernel.tunnels.changeDevice({ kind: "delete", ifIndex }),
    })),
  ];
}

async function deleteRoute({ routes }: Kernel, route: KernelRoute): Promise<void> {
  const [result] = await routes.deleteRoutes([route]);
  if (result?.error !== undefined) throw result.error;
}

/** Handles are read just before: iptables gives all rules new ones whenever it writes. */
async function chainRemoval(found: readonly ChainName[], foreign: ForeignPort): Promise<string> {
  const [{ family, table } = { family: "", table: "" }] = found;
  const names = found.map(({ chain }) => chain);
  const jumps = parseJumps(await foreign.listTable(family, table), (chain) => names.includes(chain));
  return renderChainRemoval({ family, table }, names, jumps);
}

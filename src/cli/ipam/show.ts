// SPDX-License-Identifier: Apache-2.0

import { DEFAULT_IPAM_CONFIG } from "../../crds/ipam-config.ts";
import {
  KUBE_CONTROLLERS_CONFIGURATION_NAME,
  KUBE_CONTROLLERS_CONFIGURATIONS,
} from "../../crds/kube-controllers-configuration.ts";
import type { Snapshot } from "../../ipam/audit/snapshot.ts";
import { storyOf } from "../../ipam/audit/story.ts";
import { borrowedAddresses, usageOf } from "../../ipam/audit/usage.ts";
import type { KubeClient } from "../../kube/api.ts";
import { NotFoundError } from "../../kube/errors.ts";
import type { IP } from "../../net/ip.ts";
import { type Command, type CommandContext, defineCommand, EXIT } from "../command.ts";
import { UsageError } from "../errors.ts";
import { styleOf } from "../output/style.ts";
import { parseAddress } from "./addresses.ts";
import { readCluster } from "./read-cluster.ts";
import { renderBlocks, renderBorrowed, renderPools, renderSettings, renderStory, type Setting } from "./show-text.ts";

export const command: Command = defineCommand({
  usage: `gingham ipam show: pools and what is left of them

  gingham ipam show                 totals of each pool
  gingham ipam show --blocks        and each block with its owner
  gingham ipam show --borrowed      addresses used on another node than the one that owns their block
  gingham ipam show --config        settings of address management
  gingham ipam show ADDRESS…        the whole story of an address
`,
  options: { blocks: { type: "boolean" }, borrowed: { type: "boolean" }, config: { type: "boolean" } },
  run: async ({ values, positionals }, context) => {
    const views = [values.blocks, values.borrowed, values.config, positionals.length > 0].filter(Boolean);
    if (views.length > 1) throw new UsageError("Name addresses, or one of --blocks, --borrowed and --config");
    const addresses = positionals.map(parseAddress);
    const client = await context.connect();
    const style = styleOf(context.hasColor);
    const isWide = context.format === "wide";
    if (addresses.length > 0) return await showAddresses(client, addresses, context);
    const snapshot = await readCluster(client, context.clock, { handles: false, owners: false });
    if (values.borrowed === true) {
      const borrowed = borrowedAddresses(snapshot);
      await context.show(() => renderBorrowed(borrowed), borrowed);
    } else if (values.config === true) {
      const settings = settingsOf(snapshot, await leakGracePeriod(client));
      await context.show(() => renderSettings(settings), settings);
    } else {
      const usage = usageOf(snapshot);
      const render = values.blocks === true ? renderBlocks : renderPools;
      await context.show(() => render(usage, isWide, style), usage);
    }
    return EXIT.ok;
  },
});

async function showAddresses(client: KubeClient, addresses: readonly IP[], context: CommandContext): Promise<number> {
  const snapshot = await readCluster(client, context.clock, { handles: true, owners: true });
  const stories = addresses.map((ip) => storyOf(ip, snapshot));
  const style = styleOf(context.hasColor);
  // One address gives one object, so that programs need not unpack a list.
  const data = stories.length === 1 ? stories[0] : stories;
  await context.show(() => stories.map((story) => renderStory(story, style)).join("\n"), data);
  const unknown = stories.filter(({ block, pool }) => block === undefined && pool === undefined);
  for (const { address } of unknown) context.stderr.write(`gingham: no pool and no block holds ${address}\n`);
  return unknown.length > 0 ? EXIT.problem : EXIT.ok;
}

function settingsOf({ config, information }: Snapshot, leakGrace: string | undefined): readonly Setting[] {
  const values = config ?? DEFAULT_IPAM_CONFIG;
  const names = [
    "strictAffinity",
    "autoAllocateBlocks",
    "maxBlocksPerHost",
    "ipCooldownSeconds",
    "kubeVirtVMAddressPersistence",
  ] as const;
  return [
    ...names.map((name): Setting => {
      return { name, value: values[name], ...(config !== undefined && { source: "IPAMConfig default" }) };
    }),
    {
      name: "leakGracePeriod",
      value: leakGrace ?? "15m",
      ...(leakGrace !== undefined && { source: "KubeControllersConfiguration default" }),
    },
    {
      name: "datastoreReady",
      value: information?.datastoreReady ?? true,
      ...(information?.datastoreReady !== undefined && { source: "ClusterInformation default" }),
    },
  ];
}

async function leakGracePeriod(client: KubeClient): Promise<string | undefined> {
  try {
    const { spec } = await client.get(KUBE_CONTROLLERS_CONFIGURATIONS, KUBE_CONTROLLERS_CONFIGURATION_NAME);
    return spec.controllers.node?.leakGracePeriod;
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

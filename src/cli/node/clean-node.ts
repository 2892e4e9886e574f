// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from "node:fs";
import { rm, rmdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileRecordStore } from "../../cni/record-store.ts";
import type { PacketFilterPort } from "../../felix/nft/ports.ts";
import { TABLE_NAME } from "../../felix/nft/table.ts";
import { describeError } from "../../lib/errors.ts";
import type { Kernel } from "../../netlink/kernel.ts";
import { RefusedError } from "../errors.ts";
import type { Removal } from "./calico-leftovers.ts";
import { type CleanFacts, type CleanStep, describeStep } from "./clean-plan.ts";

export interface NodePaths {
  readonly stateDir: string;
  readonly socketPath: string;
}

/** What the agent keeps in its state folder. Others keep things there, too: the embedded API server its data. */
const STATE_FOLDERS = ["attachments", "pending", "journal"];

/** @throws NetlinkError */
export async function gatherCleanFacts(
  kernel: Kernel,
  filter: PacketFilterPort,
  paths: NodePaths,
): Promise<CleanFacts> {
  const records = fileRecordStore(join(paths.stateDir, "attachments"));
  const attachments = await Promise.all(
    (await records.list()).map(async (id) => ({ contIface: id.ifName, stored: await records.read(id) })),
  );
  const [links, addrs, v4, v6, table] = await Promise.all([
    kernel.routes.listLinks(),
    kernel.routes.listAddrs(),
    kernel.routes.listRoutes(4),
    kernel.routes.listRoutes(6),
    filter.list().catch((error: unknown) => asError(error)),
  ]);
  const ours = [...STATE_FOLDERS.map((name) => join(paths.stateDir, name)), paths.socketPath];
  return {
    links,
    addrs,
    routes: [...v4, ...v6],
    attachments: attachments.flatMap(({ contIface, stored }) =>
      stored.kind === "record" ? [{ contIface, record: stored.record }] : [],
    ),
    bootID: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    hasTable: typeof table === "string",
    ...(table instanceof Error && { tableProblem: describeError(table) }),
    paths: ours.filter((path) => existsSync(path)),
  };
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** Says how each step is done. Files go only when all else has gone, since they say what is left. */
export function cleanRemovals(
  steps: readonly CleanStep[],
  { tableProblem }: CleanFacts,
  kernel: Kernel,
  filter: PacketFilterPort,
): readonly Removal[] {
  const removals = steps.map((step) => ({
    what: describeStep(step),
    isLast: step.kind === "path",
    remove: () => carryOut(step, kernel, filter),
  }));
  if (tableProblem === undefined) return removals;
  const unknown: Removal = {
    what: "table inet gingham of nftables, if it is there",
    remove: () => Promise.reject(new RefusedError(tableProblem)),
  };
  return [unknown, ...removals];
}

async function carryOut(step: CleanStep, kernel: Kernel, filter: PacketFilterPort): Promise<void> {
  switch (step.kind) {
    case "podLink":
      await kernel.wiring.unwire(step);
      return;
    case "unfinishedLink":
      // A namespace that is gone has taken its link with it.
      if (existsSync(step.netns)) await kernel.wiring.unwireFromNetns(step);
      return;
    case "route": {
      const [result] = await kernel.routes.deleteRoutes([step.route]);
      if (result?.error !== undefined) throw result.error;
      return;
    }
    case "device":
      await kernel.tunnels.changeDevice({ kind: "delete", ifIndex: step.ifIndex });
      return;
    case "ipip":
      for (const change of step.changes) await kernel.tunnels.changeDevice(change);
      return;
    case "table":
      await filter.apply(`delete table inet ${TABLE_NAME}\n`);
      return;
    case "path":
      await rm(step.path, { recursive: true });
      // Our folder goes when nothing else is in it.
      if (basename(dirname(step.path)) === "gingham") await rmdir(dirname(step.path)).catch(() => {});
      return;
    default:
      step satisfies never;
  }
}

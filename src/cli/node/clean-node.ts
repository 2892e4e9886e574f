// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from "node:fs";
import { rename, rm, rmdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileRecordStore } from "../../cni/records/record-store.ts";
import type { PacketFilterPort } from "../../felix/nft/ports.ts";
import { TABLE_NAME } from "../../felix/nft/table.ts";
import { confDir } from "../../install/conf-dir.ts";
import { planConfDirRemoval } from "../../install/conf-dir-plan.ts";
import { recordPath } from "../../install/installed.ts";
import { digestOf, readInstalled } from "../../install/programs.ts";
import { describeError } from "../../lib/errors.ts";
import type { Kernel } from "../../netlink/kernel.ts";
import { RefusedError } from "../errors.ts";
import type { Removal } from "./calico-leftovers.ts";
import { type CleanFacts, type CleanStep, type ConfStep, describeStep } from "./clean-plan.ts";

export interface NodePaths {
  /** Where the host's files are: `/`, or where they are mounted. */
  readonly root: string;
  /** The runtime's folder of network configurations, and the name of ours. */
  readonly confDir: string;
  readonly confName: string;
  readonly stateDir: string;
  readonly socketPath: string;
}

/** What the agent keeps in its state folder. Others keep things there, too: the embedded API server its data. */
const STATE_FOLDERS = ["attachments", "pending", "journal"];

/** @throws NetlinkError, InstallError */
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
  const programs = await installedPrograms(paths);
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
    confSteps: await confSteps(paths),
    programs,
    ...(existsSync(recordPath(paths.stateDir)) && { programRecord: recordPath(paths.stateDir) }),
    paths: ours.filter((path) => existsSync(path)),
  };
}

async function confSteps({ confDir: path, confName }: NodePaths): Promise<readonly ConfStep[]> {
  if (!existsSync(path)) return [];
  const files = await confDir(path, "--cni-conf-dir, GINGHAM_CNI_CONF_DIR").list();
  return planConfDirRemoval(files, confName).flatMap((step): readonly ConfStep[] => {
    if (step.kind === "remove") return [{ kind: "removeConf", path: join(path, step.name) }];
    return step.kind === "rename" ? [{ kind: "restoreConf", path: join(path, step.name), to: step.to }] : [];
  });
}

/** Only what is still as the installer wrote it: anything else in its place is somebody's. */
async function installedPrograms({ root, stateDir }: NodePaths): Promise<readonly string[]> {
  const { programs } = await readInstalled(stateDir);
  const found = await Promise.all(
    Object.entries(programs).map(async ([name, digests]) => {
      const path = join(root, name);
      const digest = await digestOf(path);
      return digest !== undefined && digests.includes(digest) ? [path] : [];
    }),
  );
  return found.flat();
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
    isLast: step.kind === "path" || step.kind === "program",
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
    case "restoreConf":
      await rename(step.path, join(dirname(step.path), step.to));
      return;
    case "removeConf":
    case "program":
      await rm(step.path, { force: true });
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

// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Family } from "../../net/ip.ts";
import { conditionsOf } from "../calc/node-status.ts";
import { formatSetting } from "../drivers/pod-link-settings.ts";
import type { PacketFilterPort } from "../nft/ports.ts";
import type { Health, NodeStatusPort, PodLinks } from "../ports.ts";
import { PlannedKernel } from "./planned-kernel.ts";
import type { DriverPorts, PlannedChange } from "./ports.ts";

type Recorder = (area: PlannedChange["area"], text: string) => void;

/** Ports that change nothing, and what was asked of them. */
export interface Plan {
  readonly ports: DriverPorts;
  /** Shape: in the order in which they would be made; none twice. */
  readonly changes: readonly PlannedChange[];
}

/**
 * Puts ports in place of the real ones that read the world and only record what should change in it. Drivers and managers
 * know nothing of it.
 *
 * @param isForwarding what the kernel says at present
 */
export function planOnly(real: Omit<DriverPorts, "enableForwarding">, isForwarding: (family: Family) => boolean): Plan {
  const changes: PlannedChange[] = [];
  const record: Recorder = (area, text) => {
    if (!changes.some((change) => change.area === area && change.text === text)) changes.push({ area, text });
  };
  const kernel = new PlannedKernel(real, record);
  return {
    changes,
    ports: {
      routes: kernel,
      tunnels: kernel,
      podLinks: plannedPodLinks(real.podLinks, record),
      filter: plannedFilter(real.filter, record),
      node: plannedNode(real.node, record),
      enableForwarding: (families) => {
        for (const family of families) if (!isForwarding(family)) record("sysctl", `${FORWARDING[family]} = 1`);
      },
    },
  };
}

const FORWARDING: Readonly<Record<Family, string>> = { 4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding" };

function plannedPodLinks(real: PodLinks, record: Recorder): PodLinks {
  const planned = new Set<string>();
  return {
    listChanged: async (links) => {
      const changed = await real.listChanged(links);
      return changed.filter((setting) => !planned.has(formatSetting(setting)));
    },
    write: async (settings) =>
      settings.map((setting) => {
        planned.add(formatSetting(setting));
        record("sysctl", formatSetting(setting));
        return undefined;
      }),
  };
}

/** What the kernel would refuse fails here, too. */
function plannedFilter(real: PacketFilterPort, record: Recorder): PacketFilterPort {
  return {
    list: () => real.list(),
    check: (script) => real.check(script),
    apply: async (script) => {
      await real.check(script);
      record("nft", script.trimEnd());
    },
    watch: (onChange) => real.watch(onChange),
  };
}

function plannedNode(real: NodeStatusPort, record: Recorder): NodeStatusPort {
  let planned: Node | undefined;
  return {
    get: async () => planned ?? (await real.get()),
    updateStatus: async (next) => {
      const now = planned ?? (await real.get());
      const [before, after] = [now.metadata.annotations ?? {}, next.metadata.annotations ?? {}];
      for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
        if (before[key] !== after[key])
          record("node", `annotation ${key}: ${before[key] ?? "none"} → ${after[key] ?? "none"}`);
      }
      for (const text of conditionChanges(now, next)) record("node", text);
      planned = next;
    },
    setTaints: async (node, taints) => {
      for (const taint of node.spec?.taints ?? [])
        if (!taints.includes(taint)) record("node", `taint ${taint.key}:${taint.effect} removed`);
      planned = { ...node, spec: { ...node.spec, taints } };
    },
  };
}

function conditionChanges(before: Node, after: Node): readonly string[] {
  const statuses = (node: Node) => new Map(conditionsOf(node).map(({ type, status }) => [type, status]));
  const [old, next] = [statuses(before), statuses(after)];
  return [
    ...[...next].filter(([type, status]) => old.get(type) !== status).map((words) => `condition ${words.join(": ")}`),
    ...[...old.keys()].filter((type) => !next.has(type)).map((type) => `condition ${type} removed`),
  ];
}

/** Routes of unknown pods are deleted after 10 s; then Felix has said all that it has to say. Units: milliseconds. */
const SETTLE_MS = 12_000;
/** Units: milliseconds. */
const GIVE_UP_MS = 60_000;
const POLL_MS = 100;
/** What has to be read and compared once. This node's address may stay uncertain. */
const NEEDED = ["datastore", "firstApply", "packetFilter"];

/** Waits until Felix has compared everything. Resolves to why it cannot, if so. */
export async function settle(health: Health, clock: Clock): Promise<string | undefined> {
  const endMs = clock.nowMs() + GIVE_UP_MS;
  for (;;) {
    const failing = Object.entries(health.readiness().checks).filter(([name, { ok }]) => !ok && NEEDED.includes(name));
    if (failing.length === 0) break;
    if (clock.nowMs() >= endMs) return failing.map(([name, { detail }]) => `${name}: ${detail}`).join("; ");
    await clock.sleep(POLL_MS);
  }
  await clock.sleep(SETTLE_MS);
  return undefined;
}

/** For people: a line for each change, scripts indented below theirs. */
export function renderPlan(
  changes: readonly PlannedChange[],
  findings: readonly { readonly message: string }[],
): string {
  const lines = changes.map(
    ({ area, text }) => `  ${area.padEnd(9)}  ${text.replaceAll("\n", `\n${" ".repeat(13)}`)}\n`,
  );
  const told = findings.map(({ message }) => `  ${message}\n`);
  const head =
    changes.length === 0 ? "This agent would change nothing.\n" : `This agent would make ${changes.length} changes:\n`;
  return `${head}${lines.join("")}${told.length === 0 ? "" : `It would tell of:\n${told.join("")}`}`;
}

// SPDX-License-Identifier: Apache-2.0
import { type Family, familyOf, parseIP } from "../../net/ip.ts";
import type { Lab } from "../lab.ts";
import { type PingRow, parseFping, renderPingMatrix, totalPings } from "../ping-matrix.ts";
import type { LabPod } from "../types.ts";
import type { Probe } from "./probe.ts";

/** Every pod pings every pod, itself too, in each family; the first one's round trips are shown one by one. */
export const PING_MATRIX: Probe = {
  title: "every pod pings every pod (round trips in ms)",
  async run(lab) {
    const names = lab.pods.map(({ name }) => name);
    const all: PingRow[] = [];
    const lines: string[] = [];
    const problems: string[] = [];
    for (const [i, family] of lab.families.entries()) {
      const { rows, lost } = await pingAll(lab, family);
      if (i === 0) lines.push(...renderPingMatrix(rows, names), "");
      lines.push(`IPv${family}: ${describe(rows)}, the slowest took ${totalPings(rows).worstMs} ms`);
      problems.push(...lost);
      all.push(...rows);
    }
    return { lines, problems, summary: describe(all) };
  },
};

function describe(rows: readonly PingRow[]): string {
  const { sent, lost } = totalPings(rows);
  return `${sent} pings, ${lost} lost`;
}

/** @returns also who got no answer, a sentence each */
async function pingAll(
  lab: Lab,
  family: Family,
): Promise<{ readonly rows: readonly PingRow[]; readonly lost: readonly string[] }> {
  const targets = lab.pods.map((pod) => addressOf(pod, family));
  const rows = await Promise.all(
    lab.pods.map(async ({ name, node }) => {
      const { stderr } = await lab.exec(name, ["fping", "-q", "-C", "1", "-t", "1000", "-i", "1", ...targets]);
      return { source: `${name} (${node})`, name, roundTripsMs: parseFping(stderr, targets) };
    }),
  );
  return { rows, lost: rows.flatMap((row) => describeLoss(row, lab.pods, targets)) };
}

function addressOf({ ips }: LabPod, family: Family): string {
  return ips.find((ip) => familyOf(parseIP(ip)) === family) ?? "";
}

function describeLoss(
  { name, roundTripsMs }: PingRow & { readonly name: string },
  pods: readonly LabPod[],
  targets: readonly string[],
): readonly string[] {
  return pods.flatMap((target, i) =>
    roundTripsMs[i] === undefined
      ? [`${name} got no answer from ${target.name} (${targets[i] ?? ""} on ${target.node})`]
      : [],
  );
}

// SPDX-License-Identifier: Apache-2.0
import { parseFping, renderPingMatrix, totalPings } from "../ping-matrix.ts";
import type { Probe } from "./probe.ts";

/** Every pod pings every pod, itself too. */
export const PING_MATRIX: Probe = {
  title: "every pod pings every pod (round trips in ms)",
  async run(lab) {
    const targets = lab.pods.map(({ ips }) => ips[0] ?? "");
    const rows = await Promise.all(
      lab.pods.map(async ({ name, node }) => {
        const { stderr } = await lab.exec(name, ["fping", "-q", "-C", "1", "-t", "1000", "-i", "1", ...targets]);
        return { source: `${name} (${node})`, name, roundTripsMs: parseFping(stderr, targets) };
      }),
    );
    const { sent, lost, worstMs } = totalPings(rows);
    const summary = `${sent} pings, ${lost} lost`;
    const problems = rows.flatMap(({ name, roundTripsMs }) =>
      lab.pods
        .filter((_, i) => roundTripsMs[i] === undefined)
        .map((target) => `${name} got no answer from ${target.name} (${target.ips.join(", ")} on ${target.node})`),
    );
    const names = lab.pods.map(({ name }) => name);
    return {
      lines: [...renderPingMatrix(rows, names), "", `${summary}, the slowest took ${worstMs} ms`],
      problems,
      summary,
    };
  },
};

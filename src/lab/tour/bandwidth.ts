// SPDX-License-Identifier: Apache-2.0
import { LabError } from "../errors.ts";
import type { Lab } from "../lab.ts";
import { formatRate, type Rate } from "../rate.ts";
import type { Probe, ProbeTools } from "./probe.ts";
import { startEndpoint } from "./start-endpoint.ts";

/** The pod with a limit, see `plan-pods.ts`. Its burst is small, so that a second of transfer shows the rate. */
export const LIMIT = { rateBits: 20_000_000, burstBits: 1_600_000 };
export const LIMITED_POD = "pod-2";
const PORT = 5201;
const DURATION_MS = 1_500;
const SKIP_MS = 400;
/** Headers take up to 5 % of the limit; the rest is room for a busy machine. */
const TOLERANCE = { least: 0.75, most: 1.1 };

/** Measures both directions of the pod that the bandwidth plugin limits. */
export const BANDWIDTH_PROBE: Probe = {
  title: `a transfer under a limit (bandwidth allows ${LIMITED_POD} ${formatRate(LIMIT.rateBits)})`,
  async run(lab, tools) {
    const other = lab.pods.find(({ name }) => name !== LIMITED_POD)?.name ?? "";
    const directions = [
      [other, LIMITED_POD],
      [LIMITED_POD, other],
    ] as const;
    const lines: string[] = [];
    const problems: string[] = [];
    for (const [from, to] of directions) {
      const { bitsPerSecond } = await transfer(lab, tools, { from, to });
      const share = bitsPerSecond / LIMIT.rateBits;
      lines.push(`${from} to ${to}: ${formatRate(bitsPerSecond)}`);
      if (share < TOLERANCE.least || share > TOLERANCE.most)
        problems.push(
          `${from} to ${to} ran at ${formatRate(bitsPerSecond)} under a limit of ${formatRate(LIMIT.rateBits)}`,
        );
    }
    return {
      lines,
      problems,
      summary: problems.length === 0 ? "bandwidth limits hold" : "bandwidth limits do not hold",
    };
  },
};

async function transfer(lab: Lab, { endpointProgram }: ProbeTools, way: { from: string; to: string }): Promise<Rate> {
  const ip = lab.pods.find(({ name }) => name === way.to)?.ips[0] ?? "";
  const sink = await startEndpoint(lab, way.to, [...endpointProgram, "sink", String(PORT), String(SKIP_MS)]);
  try {
    const source = await lab.exec(way.from, [...endpointProgram, "source", ip, String(PORT), String(DURATION_MS)]);
    if (source.exitCode !== 0)
      throw new LabError("ProbeFailed", `${way.from} cannot reach ${ip}: ${source.stderr.trim()}`);
    // Written by `receive` of endpoint.ts.
    return JSON.parse(await sink.result) as Rate;
  } finally {
    sink.stop();
  }
}

// SPDX-License-Identifier: Apache-2.0
import { describeError } from "../../lib/errors.ts";
import type { Lab } from "../lab.ts";
import type { Progress } from "../progress.ts";
import { BANDWIDTH_PROBE } from "./bandwidth.ts";
import { SHOW_BLOCKS } from "./blocks.ts";
import { HOST_PORT_PROBE } from "./host-port.ts";
import { PING_MATRIX } from "./ping.ts";
import type { Finding, Probe, ProbeTools } from "./probe.ts";
import { REMOVE_PODS } from "./removal.ts";
import { SHOW_ROUTES } from "./routes.ts";

/** What a newcomer is shown, in this order. */
export const TOUR: readonly Probe[] = [SHOW_BLOCKS, SHOW_ROUTES, PING_MATRIX, HOST_PORT_PROBE, BANDWIDTH_PROBE];
/** Comes last, and only when nobody stays to look at the pods. */
export const FAREWELL: Probe = REMOVE_PODS;

/** Runs the probes; one that fails does not stop the others. */
export async function runTour(
  lab: Lab,
  probes: readonly Probe[],
  context: { readonly tools: ProbeTools; readonly progress: Progress },
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const probe of probes) {
    const finding = await context.progress
      .step(probe.title, () => probe.run(lab, context.tools))
      .catch((error: unknown): Finding => ({ lines: [], problems: [describeError(error)], summary: "a probe broke" }));
    context.progress.show([...finding.lines, ...finding.problems.map((problem) => `PROBLEM: ${problem}`)]);
    findings.push(finding);
  }
  return findings;
}

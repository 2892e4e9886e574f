// SPDX-License-Identifier: Apache-2.0
import type { Lab } from "../lab.ts";

/** What one stop of the tour found. */
export interface Finding {
  /** What a newcomer wants to see. */
  readonly lines: readonly string[];
  /** What is not as it must be, a sentence each. Empty: the probe passed. */
  readonly problems: readonly string[];
  /** One phrase for the tour's last line. */
  readonly summary: string;
}

export interface Probe {
  readonly title: string;
  run(lab: Lab, tools: ProbeTools): Promise<Finding>;
}

export interface ProbeTools {
  /** Command line of this program's endpoints, see `endpoint.ts`. */
  readonly endpointProgram: readonly string[];
}

// SPDX-License-Identifier: Apache-2.0
import type { CNIVersion } from "../cni/input/versions.ts";
import type { Subject } from "./subject.ts";

/** One sentence of the specification, as a program. */
export interface Check {
  /** What is true of a plugin that passes. */
  readonly name: string;
  /** Of CNI SPEC 1.1.0. */
  readonly section: string;
  /** The first specification that asks for it. */
  readonly since: CNIVersion;
  /** The last one; absent: all later ones. */
  readonly until?: CNIVersion;
  /** @throws Violation, NotApplicable */
  run(subject: Subject): Promise<void>;
}

export type Outcome = "pass" | "fail" | "skip";

export interface CheckResult {
  readonly name: string;
  readonly section: string;
  readonly version: CNIVersion;
  readonly outcome: Outcome;
  /** Of a failure or a skip. */
  readonly reason?: string;
}

export interface Report {
  readonly plugin: string;
  /** What VERSION listed, as far as it is known here; oldest first. */
  readonly versions: readonly CNIVersion[];
  readonly results: readonly CheckResult[];
}

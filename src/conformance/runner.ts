// SPDX-License-Identifier: Apache-2.0
import { type CNIVersion, isAtLeast, SUPPORTED_VERSIONS } from "../cni/input/versions.ts";
import { describeError } from "../lib/errors.ts";
import { ADD_CHECKS } from "./add-checks.ts";
import { END_CHECKS } from "./end-checks.ts";
import { INPUT_CHECKS } from "./input-checks.ts";
import type { Check, CheckResult, Report } from "./model.ts";
import { parseObject } from "./shapes.ts";
import { excerpt, Subject } from "./subject.ts";
import type { Conf, Machine } from "./types.ts";
import { NotApplicable, Violation } from "./verdicts.ts";

export const CHECKS: readonly Check[] = [...INPUT_CHECKS, ...ADD_CHECKS, ...END_CHECKS];

export interface RunnerOptions {
  /** The plugin's name in the report. */
  readonly plugin: string;
  readonly conf: Conf;
  /** CNI_ARGS of every call; empty for none. */
  readonly args: string;
  readonly pluginPath: string;
  /** Only these, of what VERSION lists. */
  readonly versions?: readonly CNIVersion[];
}

/**
 * Runs every check once for each version that the plugin lists, one after the other.
 *
 * @throws Violation when VERSION does not answer a list, since nothing can be asked then
 */
export async function runConformance(
  machine: Machine,
  options: RunnerOptions,
  checks: readonly Check[] = CHECKS,
): Promise<Report> {
  const listed = await listVersions(machine);
  const versions = listed.filter((version) => options.versions?.includes(version) ?? true);
  const results: CheckResult[] = [];
  let made = 0;
  const nextID = (): string => `conformance-${++made}`;
  for (const version of versions) {
    for (const check of checks.filter((one) => appliesTo(one, version))) {
      const subject = new Subject({ ...options, machine, version, nextID });
      results.push({ name: check.name, section: check.section, version, ...(await judge(check, subject)) });
    }
  }
  return { plugin: options.plugin, versions, results };
}

async function judge(check: Check, subject: Subject): Promise<Pick<CheckResult, "outcome" | "reason">> {
  try {
    await check.run(subject);
    return { outcome: "pass" };
  } catch (error) {
    if (error instanceof NotApplicable) return { outcome: "skip", reason: error.message };
    // Whatever else went wrong is the machine's: no verdict about the plugin, but never a pass.
    return {
      outcome: "fail",
      reason: error instanceof Violation ? error.message : `not judged: ${describeError(error)}`,
    };
  } finally {
    await subject.cleanUp();
  }
}

function appliesTo({ since, until }: Check, version: CNIVersion): boolean {
  return isAtLeast(version, since) && (until === undefined || isAtLeast(until, version));
}

async function listVersions(machine: Machine): Promise<readonly CNIVersion[]> {
  const answer = await machine.call({ CNI_COMMAND: "VERSION" }, JSON.stringify({ cniVersion: "1.0.0" }));
  const listed = parseObject(answer.stdout)?.["supportedVersions"];
  if (answer.exitCode !== 0 || !Array.isArray(listed))
    throw new Violation(
      `VERSION answered ${excerpt(answer.stdout)} with exit status ${answer.exitCode}, want supportedVersions ${excerpt(answer.stderr)}`,
    );
  return SUPPORTED_VERSIONS.filter((version) => listed.includes(version));
}

// SPDX-License-Identifier: Apache-2.0
import type { Logger } from "../controller/reporter.ts";
import type { OperatorReporter } from "./operator.ts";
import { conditionsOf, type Findings } from "./status.ts";

export interface OperatorReporterOptions {
  readonly log: Logger;
  readonly metrics: { passed(findings: Findings): void; failed(): void };
}

/** Tells log and metrics. The log has each state once, when it begins. */
export function createOperatorReporter({ log, metrics }: OperatorReporterOptions): OperatorReporter {
  let told = "";
  return {
    passed: (installation, findings) => {
      metrics.passed(findings);
      const conditions = conditionsOf(findings);
      const degraded = conditions.find(({ type, status }) => type === "Degraded" && status === "True");
      const progressing = conditions.find(({ type, status }) => type === "Progressing" && status === "True");
      const state = degraded?.message ?? progressing?.message ?? "Everything is as the Installation says";
      if (state === told) return;
      told = state;
      if (degraded === undefined) log.info({ installation }, state);
      else log.warn({ installation, reason: degraded.reason }, state);
    },
    changed: (what, fields) => log.info(fields, what),
    failed: (err) => {
      metrics.failed();
      log.warn({ err }, "A look at the cluster failed; it is tried again");
    },
  };
}

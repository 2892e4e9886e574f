// SPDX-License-Identifier: Apache-2.0
import { Counter, Gauge, Registry } from "prom-client";
import { conditionsOf, type Findings } from "./status.ts";

/** The operator's metrics. */
export interface OperatorMetrics {
  passed(findings: Findings): void;
  failed(): void;
  leads(isLeader: boolean): void;
  readonly contentType: string;
  /** Everything, in Prometheus' text format. */
  text(): Promise<string>;
}

export function createOperatorMetrics(): OperatorMetrics {
  const registry = new Registry();
  const registers = [registry];
  const gauge = (name: string, help: string, labelNames: readonly string[] = []): Gauge =>
    new Gauge({ name, help, labelNames, registers });
  const condition = gauge("gingham_operator_condition", "1 where the condition of TigeraStatus gingham is True", [
    "type",
  ]);
  const problems = gauge("gingham_operator_problems", "What keeps the Installation from being carried out, by reason", [
    "reason",
  ]);
  const agents = gauge("gingham_operator_agents", "Agents, and those of them that are up to date and ready", ["state"]);
  const passes = new Counter({ name: "gingham_operator_passes_total", help: "Looks at the cluster", registers });
  const failures = new Counter({ name: "gingham_operator_failures_total", help: "Looks that failed", registers });
  const leader = gauge("gingham_operator_leader", "1 while this process leads");
  leader.set(0);
  return {
    passed: (findings) => {
      passes.inc();
      for (const { type, status } of conditionsOf(findings)) condition.set({ type }, status === "True" ? 1 : 0);
      problems.reset();
      for (const { reason } of findings.problems) problems.inc({ reason });
      const { rollout } = findings;
      if (rollout === undefined) return;
      agents.set({ state: "all" }, rollout.total);
      agents.set({ state: "updated" }, rollout.updated);
    },
    failed: () => failures.inc(),
    leads: (isLeader) => leader.set(isLeader ? 1 : 0),
    contentType: registry.contentType,
    text: async () => await registry.metrics(),
  };
}

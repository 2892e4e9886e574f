// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../lib/clock.ts";
import type { Check, Health, HealthReport } from "./ports.ts";

/** What Felix knows of itself. */
export interface FelixStatus {
  readonly lastBeatMs: number;
  /** Since when a turn is under way. */
  readonly turnStartedMs: number | undefined;
  readonly waitingFor: readonly string[];
  readonly isMonitorUp: boolean;
  readonly isFirstApplyDone: boolean;
  /** Absent: the agent keeps no table. */
  readonly packetFilter?: Check | undefined;
  /** Absent: nothing speaks against this node's addresses. */
  readonly nodeAddressProblem?: string | undefined;
  readonly failure: Failure | undefined;
}

/** What has gone wrong each time since then. */
export interface Failure {
  readonly reason: string;
  readonly sinceMs: number;
}

/** A loop that fails goes on trying; a moment of it is nothing that anybody should act on. Units: milliseconds. */
const FAILING_AFTER_MS = 30_000;

/** Whether what is kept true has been so lately. */
export function keptCheck(failure: Failure | undefined, nowMs: number): Check {
  if (failure === undefined) return { ok: true, detail: "each try succeeds" };
  const forMs = nowMs - failure.sinceMs;
  return { ok: forMs < FAILING_AFTER_MS, detail: `failing for ${seconds(forMs)}: ${failure.reason}` };
}

/** Longer than any honest turn: the first apply of 10,000 routes takes well under a second. Units: milliseconds. */
const STUCK_AFTER_MS = 60_000;

/** Source: calico-interop 4.8: readiness = datastore in sync, first dataplane apply done, interface monitor up; here also the table in nftables. */
export function felixHealth(clock: Clock, status: () => FelixStatus): Health {
  return {
    liveness: () => {
      const { lastBeatMs, turnStartedMs } = status();
      const now = clock.nowMs();
      const silentMs = now - lastBeatMs;
      const doing = turnStartedMs === undefined ? "idle" : `in a turn for ${seconds(now - turnStartedMs)}`;
      const detail = `last sign of life ${seconds(silentMs)} ago, ${doing}`;
      return report({ applyLoop: { ok: silentMs < STUCK_AFTER_MS, detail } });
    },
    readiness: () => {
      const { waitingFor, isMonitorUp, isFirstApplyDone, packetFilter, nodeAddressProblem, failure } = status();
      const isInSync = waitingFor.length === 0;
      const why = failure === undefined ? "" : `; the last try failed: ${failure.reason}`;
      return report({
        datastore: { ok: isInSync, detail: isInSync ? "in sync" : `waiting for ${waitingFor.join(", ")}` },
        firstApply: { ok: isFirstApplyDone, detail: isFirstApplyDone ? "done" : `not done yet${why}` },
        apply: keptCheck(failure, clock.nowMs()),
        monitor: { ok: isMonitorUp, detail: isMonitorUp ? "listening" : "not listening to the kernel yet" },
        nodeAddress: { ok: nodeAddressProblem === undefined, detail: nodeAddressProblem ?? "certain" },
        ...(packetFilter && { packetFilter }),
      });
    },
  };
}

/** The same health, whose readiness has one part more. */
export function withReadiness(health: Health, name: string, check: () => Check): Health {
  return {
    liveness: () => health.liveness(),
    readiness: () => report({ ...health.readiness().checks, [name]: check() }),
  };
}

export function withLiveness(health: Health, name: string, check: () => Check): Health {
  return {
    liveness: () => report({ ...health.liveness().checks, [name]: check() }),
    readiness: () => health.readiness(),
  };
}

function report(checks: HealthReport["checks"]): HealthReport {
  return { ok: Object.values(checks).every((check) => check.ok), checks };
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

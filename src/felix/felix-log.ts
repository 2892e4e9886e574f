// SPDX-License-Identifier: Apache-2.0
import { describeError } from "../lib/errors.ts";
import { formatIP } from "../net/ip.ts";
import type { Finding } from "./calc/findings.ts";
import type { NodeAddresses } from "./calc/node-addresses.ts";
import type { ApplyReport } from "./drivers/route-table.ts";
import { FindingLog } from "./finding-log.ts";
import { formatKernelRoute } from "./kernel-route.ts";
import type { ParentLink } from "./managers/route-manager.ts";
import type { KernelRoute, Logger, TunnelReport, TurnReport } from "./ports.ts";
import { TurnSummary } from "./turn-summary.ts";

const SUMMARY_EVERY_MS = 60_000;
const RESTORED_EVERY_MS = 10_000;
/** Names in one line, and lines about findings in one turn. */
const SAMPLE = 5;
const FINDINGS_AT_ONCE = 20;

/**
 * Tells a person what Felix does: each change of state once, repairs and refusals as warnings, and the loop itself as one
 * line a minute.
 */
export class FelixLog {
  readonly #log: Logger;
  readonly #linkName: (ifIndex: number) => string | undefined;
  readonly #findings = new FindingLog();
  readonly #summary = new TurnSummary();
  #summaryDueMs: number;
  #restored: KernelRoute[] = [];
  #restoredDueMs = 0;
  #addresses = "";
  readonly #restoredTunnels = new RestoredThings("of VXLAN's devices and entries removed or changed");
  readonly #restoredSettings = new RestoredThings("of the settings of pods' links changed");
  #mtu = "";

  constructor(log: Logger, nowMs: number, linkName: (ifIndex: number) => string | undefined) {
    this.#log = log;
    this.#linkName = linkName;
    this.#summaryDueMs = nowMs + SUMMARY_EVERY_MS;
  }

  waitingFor(inputs: readonly string[]): void {
    this.#log.info({ waitingFor: inputs }, "reading the datastore; the kernel is left alone until that is complete");
  }

  firstApply(report: ApplyReport, fields: { readonly routes: number; readonly durationMs: number }): void {
    const { updated, deleted, failed } = report;
    const adopted = fields.routes - updated;
    this.#log.info(
      { ...fields, adopted, updated, deleted, failed },
      `in sync: ${countRoutes(adopted)} adopted as they were, ${updated} written, ${deleted} deleted`,
    );
  }

  /** This node's address of each family, how it was found, and where. */
  localAddresses(local: NodeAddresses | undefined, parents: readonly (ParentLink | undefined)[]): void {
    const found = [local?.ipv4, local?.ipv6].flatMap((address, i) => {
      const parent = parents[i];
      const where = parent === undefined ? "on no link" : `/${parent.prefixLength} on ${parent.name}`;
      return address === undefined ? [] : [`${formatIP(address.ip)} ${where} (${address.method})`];
    });
    const text = found.join(", ").replaceAll(" /", "/");
    if (text === this.#addresses) return;
    this.#addresses = text;
    this.#log.info({ addresses: found }, `node address: ${text || "none"}`);
  }

  turn(turn: TurnReport, report: ApplyReport, nowMs: number): void {
    this.#summary.add(turn);
    if (report.replacedForeign.length > 0) {
      const routes = this.#sample(report.replacedForeign);
      this.#log.warn({ routes }, `${countRoutes(report.replacedForeign.length)} of others replaced by ours`);
    }
    this.#restored.push(...report.restored);
    if (this.#restored.length > 0 && nowMs >= this.#restoredDueMs) {
      const count = this.#restored.length;
      const routes = this.#sample(this.#restored);
      this.#log.warn({ routes, count }, `${countRoutes(count)} removed or changed by another program; restored`);
      this.#restored = [];
      this.#restoredDueMs = nowMs + RESTORED_EVERY_MS;
    }
  }

  /** Devices and entries that others had taken away. */
  tunnels({ restored }: TunnelReport, nowMs: number): void {
    this.#restoredTunnels.tell(restored, nowMs, this.#log);
  }

  /** Settings of pods' links that others had changed. */
  settings(restored: readonly string[], nowMs: number): void {
    this.#restoredSettings.tell(restored, nowMs, this.#log);
  }

  /** What new pods get. Pods that run keep what they have. */
  mtu(podBytes: number, hostBytes: number): void {
    const text = `${podBytes} of ${hostBytes}`;
    if (text === this.#mtu) return;
    const isFirst = this.#mtu === "";
    this.#mtu = text;
    const fields = { podMTUBytes: podBytes, hostMTUBytes: hostBytes };
    if (isFirst) this.#log.info(fields, `MTU: ${hostBytes} between nodes, ${podBytes} for pods`);
    else this.#log.warn(fields, `MTU is now ${hostBytes} between nodes, ${podBytes} for new pods; others keep theirs`);
  }

  turnFailed(error: unknown, retryInMs: number): void {
    this.#log.warn({ err: describeError(error), retryInMs: Math.round(retryInMs) }, "cannot update routes; will retry");
  }

  /** Tells findings that are new or over. Returns when to ask again although nothing changed. */
  findings(findings: readonly Finding[], nowMs: number): number | undefined {
    const { appeared, cleared, againInMs } = this.#findings.update(findings, nowMs);
    for (const { code, subject, message } of appeared.slice(0, FINDINGS_AT_ONCE)) {
      this.#log.warn({ code, subject }, message);
    }
    if (appeared.length > FINDINGS_AT_ONCE) {
      this.#log.warn({ count: appeared.length }, `and ${appeared.length - FINDINGS_AT_ONCE} more findings`);
    }
    for (const { code, subject, message } of cleared.slice(0, FINDINGS_AT_ONCE)) {
      this.#log.info({ code, subject }, `no longer: ${message}`);
    }
    return againInMs;
  }

  /** Says the minute's line when it is due. */
  summary(nowMs: number): void {
    if (nowMs < this.#summaryDueMs) return;
    this.#summaryDueMs = nowMs + SUMMARY_EVERY_MS;
    const fields = this.#summary.take();
    if (fields === undefined) return;
    const { turns, averageMs, longestMs, longest } = fields;
    this.#log.info(fields, `route updates: ${turns}, average ${averageMs} ms, longest ${longestMs} ms (${longest})`);
  }

  #sample(routes: readonly KernelRoute[]): readonly string[] {
    const more = routes.length > SAMPLE ? [`and ${routes.length - SAMPLE} more`] : [];
    return [...routes.slice(0, SAMPLE).map((route) => formatKernelRoute(route, this.#linkName)), ...more];
  }
}

function countRoutes(count: number): string {
  return count === 1 ? "1 route" : `${count} routes`;
}

/** One kind of repair: a line for all of them together, now and then. */
class RestoredThings {
  readonly #kind: string;
  #what: string[] = [];
  #dueMs = 0;

  constructor(kind: string) {
    this.#kind = kind;
  }

  tell(restored: readonly string[], nowMs: number, log: Logger): void {
    this.#what.push(...restored);
    const count = this.#what.length;
    if (count === 0 || nowMs < this.#dueMs) return;
    const more = count > SAMPLE ? [`and ${count - SAMPLE} more`] : [];
    const what = [...this.#what.slice(0, SAMPLE), ...more];
    log.warn({ what, count }, `${count} ${this.#kind} by another program; restored`);
    this.#what = [];
    this.#dueMs = nowMs + RESTORED_EVERY_MS;
  }
}

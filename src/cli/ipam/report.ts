// SPDX-License-Identifier: Apache-2.0
import { describeFix, type Finding, SEVERITIES, type Severity } from "../../ipam/audit/finding.ts";
import { recordedAddresses } from "../../ipam/audit/recorded.ts";
import { liveBlocks, type Snapshot } from "../../ipam/audit/snapshot.ts";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import { parseJSON } from "../../lib/json.ts";
import { formatCIDR, ordinalOf, parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { UsageError } from "../errors.ts";
import type { Style } from "../output/style.ts";
import type { Mended } from "./mend.ts";

/** What `check` looked at. */
export interface Looked {
  readonly blocks: number;
  readonly addresses: number;
  readonly handles: number;
  readonly affinities: number;
  readonly pods: number;
  readonly nodes: number;
}

export function lookedAt(snapshot: Snapshot): Looked {
  const blocks = liveBlocks(snapshot);
  return {
    blocks: blocks.length,
    addresses: blocks.reduce((n, block) => n + recordedAddresses(block).length, 0),
    handles: snapshot.handles.length,
    affinities: snapshot.affinities.length,
    pods: snapshot.pods.size,
    nodes: snapshot.nodes.size,
  };
}

const KIND = "GinghamIPAMReport";
const VERSION = 1;

/** A finding as programs see it: the fix in words, the leak with all that a release must name. */
interface ReportedFinding extends Omit<Finding, "fix" | "leak" | "identity"> {
  readonly fix?: string;
  readonly fixed?: Mended["outcome"];
  readonly leak?: {
    readonly why: string;
    readonly handleID: string;
    readonly block: string;
    readonly sequenceNumber: bigint;
  };
}

export interface Report {
  readonly kind: typeof KIND;
  readonly version: typeof VERSION;
  /** RFC 3339 */
  readonly time: string;
  readonly clusterGUID: string;
  readonly looked: Looked;
  readonly problems: number;
  readonly findings: readonly ReportedFinding[];
}

export function reportOf(snapshot: Snapshot, findings: readonly Finding[], mended: readonly Mended[]): Report {
  const outcomes = new Map(mended.map(({ finding, outcome }) => [finding, outcome]));
  return {
    kind: KIND,
    version: VERSION,
    time: new Date(snapshot.takenMs).toISOString(),
    clusterGUID: snapshot.information?.clusterGUID ?? "",
    looked: lookedAt(snapshot),
    problems: findings.filter(isProblem).length,
    findings: findings.map((finding): ReportedFinding => {
      const { fix, leak, identity: _identity, ...rest } = finding;
      const fixed = outcomes.get(finding);
      return {
        ...rest,
        ...(fix !== undefined && { fix: describeFix(fix) }),
        ...(fixed !== undefined && { fixed }),
        ...(leak !== undefined && {
          leak: {
            why: leak.why,
            handleID: leak.address.handleID,
            block: formatCIDR(leak.address.block),
            sequenceNumber: leak.address.sequenceNumber,
          },
        }),
      };
    }),
  };
}

export function isProblem({ severity }: Pick<Finding, "severity">): boolean {
  return severity !== "info";
}

/** The leaked addresses of a stored report. */
export interface StoredReport {
  readonly timeMs: number;
  readonly clusterGUID: string;
  readonly leaks: readonly Omit<HeldAddress, "attributes">[];
}

/** @param path for messages. @throws UsageError */
export function parseReport(text: string, path: string): StoredReport {
  const fail = (why: string): UsageError =>
    new UsageError(`${path} is no report of this program: ${why}; make one with gingham ipam check -o json`);
  try {
    const raw = parseJSON(text) as Partial<Report>;
    if (raw.kind !== KIND || raw.version !== VERSION)
      throw fail(`kind is ${String(raw.kind)}, version ${String(raw.version)}`);
    const timeMs = Date.parse(raw.time ?? "");
    if (Number.isNaN(timeMs)) throw fail("it has no time");
    const leaks = (raw.findings ?? []).flatMap(({ address, leak }) => {
      if (address === undefined || leak === undefined) return [];
      const [ip, block] = [parseIP(address), parseCIDR(leak.block)];
      // A small number is read as a number.
      const sequenceNumber = BigInt(leak.sequenceNumber);
      return [{ ip, block, ordinal: ordinalOf(block, ip), handleID: leak.handleID, sequenceNumber }];
    });
    return { timeMs, clusterGUID: raw.clusterGUID ?? "", leaks };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw fail(error instanceof Error ? error.message : String(error));
  }
}

/** A finding in three lines, and the sum. */
export function renderFindings(looked: Looked, findings: readonly Finding[], style: Style): string {
  const paint = { error: style.bad, warning: style.warn, info: style.dim } as const;
  const width = Math.max(...SEVERITIES.map((severity) => severity.length));
  const indent = " ".repeat(width + 2);
  const blocks = findings.map(({ severity, code, object, address, reason, nextStep }) => {
    const where = `${object.kind}${object.name === "" ? "" : ` ${object.name}`}${address === undefined ? "" : `, ${address}`}`;
    const head = `${paint[severity](severity.padEnd(width))}  ${style.bold(where)}  ${style.dim(code)}`;
    return `${head}\n${indent}${reason}\n${indent}→ ${nextStep}\n\n`;
  });
  const { addresses, handles, affinities, pods, nodes } = looked;
  const scope = `${looked.blocks} blocks, ${addresses} addresses, ${handles} handles, ${affinities} claims; ${pods} pods, ${nodes} nodes`;
  return `${blocks.join("")}Looked at ${scope}.\n${summary(findings, style)}`;
}

function summary(findings: readonly Finding[], style: Style): string {
  if (!findings.some(isProblem)) return `${style.good("No problem.")}\n`;
  const count = (severity: Severity): number => findings.filter((finding) => finding.severity === severity).length;
  const parts = SEVERITIES.flatMap((severity) => {
    const n = count(severity);
    return n === 0 ? [] : [`${n} ${n === 1 || severity === "info" ? severity : `${severity}s`}`];
  });
  const fixable = findings.filter(({ fix }) => fix !== undefined).length;
  const hint = fixable === 0 ? "" : ` --fix can mend ${fixable}.`;
  return `${style.bold(`${parts.join(", ")}.`)}${hint}\n`;
}

export function renderPlan(fixes: readonly { readonly fix: Mended["fix"] }[]): string {
  return `\nPlan:\n${fixes.map(({ fix }) => `  ${describeFix(fix)}\n`).join("")}`;
}

const OUTCOMES: Readonly<Record<Mended["outcome"], string>> = {
  done: "done",
  changed: "left alone, since it changed meanwhile",
  failed: "FAILED",
};

export function renderMended(mended: readonly Mended[], style: Style): string {
  return mended
    .map(({ fix, outcome, error }) => {
      const text = `${OUTCOMES[outcome]}: ${describeFix(fix)}${error === undefined ? "" : `: ${error}`}\n`;
      return outcome === "done" ? text : style.warn(text);
    })
    .join("");
}

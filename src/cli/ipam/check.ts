// SPDX-License-Identifier: Apache-2.0
import { audit } from "../../ipam/audit/audit.ts";
import { type Finding, persistent } from "../../ipam/audit/finding.ts";
import type { Snapshot } from "../../ipam/audit/snapshot.ts";
import { KubeStore } from "../../ipam/kube-store.ts";
import type { KubeClient } from "../../kube/api.ts";
import { parseGoDuration } from "../../lib/go-duration.ts";
import { type Command, type CommandContext, defineCommand, EXIT } from "../command.ts";
import { UsageError } from "../errors.ts";
import { styleOf } from "../output/style.ts";
import { type Mended, mend, planFixes } from "./mend.ts";
import { readCluster } from "./read-cluster.ts";
import { isProblem, lookedAt, renderFindings, renderMended, renderPlan, reportOf } from "./report.ts";

const DEFAULT_WAIT_MS = 2000;
export const command: Command = defineCommand({
  usage: `gingham ipam check: what is wrong with addresses, blocks, handles and claims

  gingham ipam check                        findings, each with a reason and a next step
  gingham ipam check -o json > report.json  for programs, and for gingham ipam release --from-report
  gingham ipam check --fix                  shows a plan, asks, and mends what is safe to mend
  gingham ipam check --fix --wait 1m        leaked addresses, too: those that look leaked all that time

  --fix            mend; each step is a compare-and-swap against what was seen
  --yes            do not ask
  --wait DURATION  time between the two looks (default ${DEFAULT_WAIT_MS / 1000}s): only what both find is told, since one alone also sees
                   work in progress

Exit status: 1 when errors or warnings were found (and not all of them were mended), else 0.
`,
  options: { fix: { type: "boolean" }, yes: { type: "boolean" }, wait: { type: "string" } },
  run: async ({ values, positionals }, context) => {
    if (positionals.length > 0) throw new UsageError(`check takes no arguments, got ${JSON.stringify(positionals[0])}`);
    const waitMs = values.wait === undefined ? DEFAULT_WAIT_MS : parseGoDuration(values.wait);
    if (waitMs === undefined)
      throw new UsageError(`--wait is ${JSON.stringify(values.wait)}, want a duration such as 1m`);
    const client = await context.connect();
    const isAsked = values.wait !== undefined;
    const { snapshot, findings } = await lookTwice(client, context, waitMs, isAsked);
    const style = styleOf(context.hasColor);
    const isForPeople = context.format === "table" || context.format === "wide";
    if (isForPeople) context.stdout.write(renderFindings(lookedAt(snapshot), findings, style));
    const mended = values.fix === true ? await fix(client, context, findings, values.yes === true) : [];
    if (!isForPeople) await context.show(() => "", reportOf(snapshot, findings, mended));
    const done = new Set(mended.filter(({ outcome }) => outcome === "done").map(({ finding }) => finding));
    return findings.some((finding) => isProblem(finding) && !done.has(finding)) ? EXIT.problem : EXIT.ok;
  },
});

/** @param isAsked look twice even when the first look finds nothing. */
async function lookTwice(
  client: KubeClient,
  context: CommandContext,
  waitMs: number,
  isAsked: boolean,
): Promise<{ readonly snapshot: Snapshot; readonly findings: readonly Finding[] }> {
  const wanted = { handles: true, owners: true };
  const first = await readCluster(client, context.clock, wanted);
  const before = audit(first);
  if (before.length === 0 && !isAsked) return { snapshot: first, findings: before };
  if (waitMs > DEFAULT_WAIT_MS) {
    context.stderr.write(
      `gingham: ${before.length} findings at the first look; the second one is in ${waitMs / 1000} s\n`,
    );
  }
  await context.clock.sleep(waitMs);
  const snapshot = await readCluster(client, context.clock, wanted);
  return { snapshot, findings: persistent(before, audit(snapshot, waitMs)) };
}

async function fix(
  client: KubeClient,
  context: CommandContext,
  findings: readonly Finding[],
  isSure: boolean,
): Promise<readonly Mended[]> {
  const plan = planFixes(findings);
  const { people } = context;
  if (plan.length === 0) {
    people.write("\nThere is nothing that --fix can mend safely.\n");
    return [];
  }
  people.write(renderPlan(plan));
  if (!isSure && !(await context.confirm(`Carry out these ${plan.length} steps?`))) {
    people.write("Nothing was changed (--yes carries it out without a question).\n");
    return [];
  }
  const { clock } = context;
  const mended = await mend({ store: new KubeStore(client), clock, random: Math.random }, plan);
  people.write(renderMended(mended, styleOf(context.hasColor)));
  return mended;
}

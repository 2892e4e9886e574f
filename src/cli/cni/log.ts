// SPDX-License-Identifier: Apache-2.0
import { renderVerbEvent } from "../../cni/journal/events.ts";
import { hasJournal, readVerbs } from "../../cni/journal/node-journal.ts";
import type { VerbEvent } from "../../cni/journal/types.ts";
import { formatIP } from "../../net/ip.ts";
import { type Command, defineCommand, EXIT } from "../command.ts";
import { RefusedError, UsageError } from "../errors.ts";
import { renderTable } from "../output/table.ts";

const DEFAULT_STATE_DIR = "/var/lib/gingham";
const DEFAULT_LAST = "50";
const MAX_LAST = 100_000;

export const command: Command = defineCommand({
  usage: `Usage: gingham cni log [options]

The last CNI calls of this node, oldest first, with how long each step took. Read from the agent's files, so it needs no
agent and no API server.

  -n, --last N         how many (default: ${DEFAULT_LAST})
  --pod NAMESPACE/NAME only calls for this pod
  --failed             only calls that failed
  --state-dir DIR      where this node's agent keeps its state (default: ${DEFAULT_STATE_DIR})
`,
  options: {
    last: { type: "string", short: "n" },
    pod: { type: "string" },
    failed: { type: "boolean" },
    "state-dir": { type: "string" },
  },
  run: async ({ values, positionals }, context) => {
    if (positionals.length > 0) throw new UsageError(`${JSON.stringify(positionals[0])} is not understood`);
    const stateDir = values["state-dir"] ?? (context.env["GINGHAM_STATE_DIR"] || DEFAULT_STATE_DIR);
    const last = parseLast(values.last ?? DEFAULT_LAST);
    const pod = values.pod === undefined ? undefined : parsePod(values.pod);
    if (!hasJournal(stateDir))
      throw new RefusedError(`There is no journal under ${stateDir}: run this on a node, or name --state-dir`);
    const wanted = (event: VerbEvent): boolean => {
      if (values.failed === true && event.code === 0) return false;
      return pod === undefined || (event.pod?.namespace === pod.namespace && event.pod.name === pod.name);
    };
    const calls = await readVerbs(stateDir, { last, wanted });
    await context.show(() => renderCalls(calls), { calls: calls.map(renderVerbEvent) });
    return EXIT.ok;
  },
});

function renderCalls(calls: readonly VerbEvent[]): string {
  return renderTable<VerbEvent>(
    [
      { title: "TIME", text: ({ atMs }) => new Date(atMs).toISOString() },
      { title: "VERB", text: ({ verb }) => verb },
      { title: "POD", text: ({ pod }) => (pod === undefined ? "-" : `${pod.namespace}/${pod.name}`) },
      { title: "CONTAINER", text: ({ attachment }) => attachment.containerID.slice(0, 13) || "-" },
      { title: "ADDRESS", text: ({ ips = [] }) => ips.map(formatIP).join(",") || "-" },
      { title: "MS", align: "right", text: ({ durationMs }) => durationMs.toFixed(1) },
      { title: "CODE", align: "right", text: ({ code }) => String(code) },
      {
        title: "STEPS (MS), MESSAGE",
        text: ({ stepsMs, message }) => [stepsOf(stepsMs), message ?? ""].join(" ").trim(),
      },
    ],
    calls,
  );
}

function stepsOf(stepsMs: VerbEvent["stepsMs"] = {}): string {
  const steps = Object.entries(stepsMs).filter(([step]) => step !== "total");
  return steps.map(([step, ms]) => `${step} ${ms.toFixed(1)}`).join(", ");
}

function parseLast(text: string): number {
  const last = Number(text);
  if (/^\d{1,6}$/.test(text) && last > 0 && last <= MAX_LAST) return last;
  throw new UsageError(`-n is ${JSON.stringify(text)}, want a number from 1 to ${MAX_LAST}`);
}

function parsePod(text: string): { readonly namespace: string; readonly name: string } {
  const [namespace, name, ...more] = text.split("/");
  if (namespace && name && more.length === 0) return { namespace, name };
  throw new UsageError(`--pod is ${JSON.stringify(text)}, want NAMESPACE/NAME`);
}

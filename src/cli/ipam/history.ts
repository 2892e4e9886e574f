// SPDX-License-Identifier: Apache-2.0
import { hostname } from "node:os";
import { hasJournal, readAddressHistory } from "../../cni/journal/node-journal.ts";
import { type Tenure, tenuresOf } from "../../cni/journal/tenures.ts";
import type { AttachmentID } from "../../cni/types.ts";
import type { KubeClient } from "../../kube/api.ts";
import { describeError } from "../../lib/errors.ts";
import { formatIP, type IP, parseIP } from "../../net/ip.ts";
import { type Command, type CommandContext, defineCommand, EXIT } from "../command.ts";
import { RefusedError, UsageError } from "../errors.ts";
import { renderFacts, renderTable } from "../output/table.ts";
import { AGENT_LABEL, askAgents, type NodeAnswer } from "./ask-agents.ts";
import { findAddress, type Whereabouts } from "./holder.ts";

const DEFAULT_STATE_DIR = "/var/lib/gingham";
const DEFAULT_AGENT_PORT = "9091";

export const command: Command = defineCommand({
  usage: `Usage: gingham ipam history ADDRESS [options]

Who had an address, from when to when. Each node keeps a journal of limited size. On a node its files are read; all other
nodes' agents are asked through the API server: their pods, labelled ${AGENT_LABEL}, must have been started
with --remote-history on, and you need the right to get pods/proxy.

  --local              read this node's files only: needs no API server
  --state-dir DIR      where this node's agent keeps its state (default: ${DEFAULT_STATE_DIR})
  --node-name NAME     this machine's Node object (default: NODENAME, or the host name)
  --agent-port PORT    the agents' metrics port (default: ${DEFAULT_AGENT_PORT})

Exit status 1 when a node could not be asked: then the answer may lack something.
`,
  options: {
    local: { type: "boolean" },
    "state-dir": { type: "string" },
    "node-name": { type: "string" },
    "agent-port": { type: "string" },
  },
  run: async ({ values, positionals }, context) => {
    const ip = parseAddress(positionals);
    const { env } = context;
    const stateDir = values["state-dir"] ?? (env["GINGHAM_STATE_DIR"] || DEFAULT_STATE_DIR);
    const node = values["node-name"] ?? (env["NODENAME"] || hostname().toLowerCase());
    const port = parsePort(values["agent-port"] ?? DEFAULT_AGENT_PORT);
    const own: NodeAnswer[] = hasJournal(stateDir)
      ? [{ kind: "answered", node, from: "files", history: await readAddressHistory(stateDir, ip) }]
      : [];
    if (values.local === true && own.length === 0)
      throw new RefusedError(`There is no journal under ${stateDir}: run this on a node, or name --state-dir`);
    const found = values.local === true ? { answers: own } : await askCluster(context, ip, { own, port });
    const report = reportOf(ip, found);
    await context.show(() => renderReport(report), dataOf(report));
    return report.answers.every(({ kind }) => kind === "answered") ? EXIT.ok : EXIT.problem;
  },
});

interface Found {
  readonly answers: readonly NodeAnswer[];
  /** Absent where nobody could be asked for blocks. */
  readonly present?: Whereabouts | undefined;
}

/** This node's files are worth showing even when the API server is away. */
async function askCluster(
  context: CommandContext,
  ip: IP,
  { own, port }: { readonly own: readonly NodeAnswer[]; readonly port: number },
): Promise<Found> {
  let client: KubeClient;
  try {
    client = await context.connect();
    const except = new Set(own.map(({ node }) => node));
    const [present, others] = await Promise.all([findAddress(client, ip), askAgents(client, ip, { port, except })]);
    return { answers: [...own, ...others], present };
  } catch (error) {
    if (own.length === 0) throw error;
    return { answers: [...own, { kind: "notAsked", node: "(all others)", why: describeError(error) }] };
  }
}

/** A tenure, and what is known of its ends. */
interface Line extends Tenure {
  /** The block says so. */
  readonly isNow: boolean;
}

interface Report extends Found {
  readonly ip: IP;
  readonly lines: readonly Line[];
}

function reportOf(ip: IP, found: Found): Report {
  const events = found.answers.flatMap((answer) => (answer.kind === "answered" ? answer.history.events : []));
  const holder = found.present?.holder;
  const lines = tenuresOf(events).map((tenure) => {
    const isNow = holder?.handleID === tenure.handleID && holder.sequenceNumber === tenure.sequenceNumber;
    return { ...tenure, isNow };
  });
  return { ip, lines, ...found };
}

function renderReport(report: Report): string {
  const { ip, lines, answers } = report;
  const notAsked = answers.filter((answer) => answer.kind === "notAsked");
  const facts = renderFacts([["Address", formatIP(ip)], ...presentFacts(report)]);
  const table = renderTable<Line>(
    [
      { title: "FROM", text: ({ fromMs }) => timeOf(fromMs) ?? "before the journal" },
      { title: "TO", text: (line) => timeOf(line.toMs) ?? (line.isNow ? "now" : "?") },
      { title: "POD", text: ({ pod }) => (pod === undefined ? "-" : `${pod.namespace}/${pod.name}`) },
      { title: "CONTAINER", text: ({ attachment, handleID }) => containerOf(attachment) ?? `(${handleID})` },
      { title: "INTERFACE", text: ({ attachment }) => attachment?.ifName ?? "-" },
      { title: "NODE", text: ({ node }) => node },
      { title: "ENDED BY", text: (line) => line.why ?? (line.isNow ? "" : "no release was seen") },
    ],
    lines,
  );
  const since = answers.flatMap((answer) => (answer.kind === "answered" ? [sinceOf(answer)] : []));
  const gaps = notAsked.map(({ node, why }) => `Not asked: ${node}: ${why}\n`);
  return `${facts}\n${lines.length === 0 ? "No node that answered has noted it.\n" : table}\n${since.join("")}${gaps.join("")}`;
}

function presentFacts({ present, answers }: Report): readonly (readonly [string, string])[] {
  if (present === undefined) {
    const isUnknown = answers.some(({ node }) => node === "(all others)") || answers.length < 2;
    return [["Now", isUnknown ? "not known: no block was read" : "no block has it"]];
  }
  const { block, holder } = present;
  const place: [string, string] = ["Block", `${block.spec.cidr}, ${block.spec.affinity ?? "nobody's"}`];
  if (holder === undefined) return [place, ["Now", "free"]];
  const { namespace, pod, node } = holder.attributes;
  const who = namespace !== undefined && pod !== undefined ? `${namespace}/${pod}` : holder.handleID;
  return [place, ["Now", `${who} on ${node ?? "an unknown node"} (handle ${holder.handleID})`]];
}

function dataOf({ ip, present, lines, answers }: Report): object {
  const holder = present?.holder;
  return {
    address: formatIP(ip),
    ...(present && { block: present.block.spec.cidr, blockAffinity: present.block.spec.affinity ?? null }),
    ...(present && {
      holder:
        holder === undefined
          ? null
          : { handleID: holder.handleID, sequenceNumber: holder.sequenceNumber, attributes: holder.attributes },
    }),
    tenures: lines.map(({ fromMs, toMs, why, isNow, attachment, pod, ...rest }) => ({
      from: timeOf(fromMs) ?? null,
      to: timeOf(toMs) ?? null,
      isNow,
      ...(why && { why }),
      ...rest,
      ...attachment,
      ...(pod && { pod }),
    })),
    nodes: answers.map((answer) =>
      answer.kind === "answered"
        ? { node: answer.node, asked: true, from: answer.from, since: timeOf(answer.history.sinceMs) ?? null }
        : { node: answer.node, asked: false, why: answer.why },
    ),
  };
}

function sinceOf({ node, from, history }: NodeAnswer & { readonly kind: "answered" }): string {
  const whose = from === "files" ? "its files" : "its agent";
  return `Asked: ${node}: ${whose}, since ${timeOf(history.sinceMs) ?? "nothing happened there"}\n`;
}

/** As runtimes show them. */
function containerOf(attachment: AttachmentID | undefined): string | undefined {
  return attachment?.containerID.slice(0, 13);
}

function timeOf(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : new Date(ms).toISOString();
}

function parseAddress(positionals: readonly string[]): IP {
  const [text, ...more] = positionals;
  if (text === undefined || more.length > 0) throw new UsageError("Name one address: gingham ipam history 10.0.0.1");
  try {
    return parseIP(text);
  } catch {
    throw new UsageError(`${JSON.stringify(text)} is no address`);
  }
}

function parsePort(text: string): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port > 0 && port < 65_536) return port;
  throw new UsageError(`--agent-port is ${JSON.stringify(text)}, want a port`);
}

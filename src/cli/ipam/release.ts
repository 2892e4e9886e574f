// SPDX-License-Identifier: Apache-2.0
import { readFile } from "node:fs/promises";
import { audit } from "../../ipam/audit/audit.ts";
import { KEEP_TEXT, LEAK_REST_MS } from "../../ipam/audit/check-addresses.ts";
import type { Finding } from "../../ipam/audit/finding.ts";
import { type RecordedAddress, recordedAddresses, stateOf } from "../../ipam/audit/recorded.ts";
import { isDamaged, liveBlocks, type Snapshot, viewOfSnapshot } from "../../ipam/audit/snapshot.ts";
import { blockAround } from "../../ipam/audit/story.ts";
import { assignmentKey, heldAddresses, ownerOf } from "../../ipam/gc/addresses.ts";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import { verdictOf } from "../../ipam/gc/verdict.ts";
import { KubeStore } from "../../ipam/kube-store.ts";
import { type ReleaseTools, releaseAddresses } from "../../ipam/release.ts";
import { releaseUnhandled } from "../../ipam/release-unhandled.ts";
import { describeError } from "../../lib/errors.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import { type Command, type CommandContext, defineCommand, EXIT } from "../command.ts";
import { RefusedError, UsageError } from "../errors.ts";
import { parseAddress } from "./addresses.ts";
import { readCluster } from "./read-cluster.ts";
import { parseReport } from "./report.ts";

export const command: Command = defineCommand({
  usage: `gingham ipam release: give addresses back

  gingham ipam release ADDRESS…                  these addresses
  gingham ipam release --handle HANDLE           all addresses of a handle
  gingham ipam release --from-report FILE        what a report of gingham ipam check -o json calls leaked, and is still so

  --force   also what somebody seems to use: another pod can get the address at once. With a report: also a fresh one,
            or one of another cluster

Each address is released with its handle and sequence number: if it was given again meanwhile, nothing happens.
`,
  options: { handle: { type: "string" }, "from-report": { type: "string" }, force: { type: "boolean" } },
  run: async ({ values, positionals }, context) => {
    const { handle, "from-report": path, force = false } = values;
    const ways = [handle, path, positionals.length > 0 ? positionals : undefined].filter((way) => way !== undefined);
    if (ways.length !== 1) throw new UsageError("Name addresses, or --handle, or --from-report");
    const addresses = [...new Set(positionals.map(parseAddress))];
    const report = path === undefined ? undefined : parseReport(await readFileOf(path), path);
    const client = await context.connect();
    const snapshot = await readCluster(client, context.clock, { handles: path !== undefined, owners: true });
    const tools = { store: new KubeStore(client), clock: context.clock, random: Math.random };
    if (report !== undefined) {
      const { timeMs, clusterGUID } = report;
      const guid = snapshot.information?.clusterGUID ?? "";
      if (!force && clusterGUID !== guid)
        throw new RefusedError(
          `${path} is of cluster ${clusterGUID || "without GUID"}, this is ${guid || "without GUID"}; --force releases all the same`,
        );
      const ageMs = snapshot.takenMs - timeMs;
      if (!force && ageMs < LEAK_REST_MS) {
        const left = Math.ceil((LEAK_REST_MS - ageMs) / 1000);
        throw new RefusedError(
          `${path} is ${Math.floor(ageMs / 1000)} s old: a sandbox may still use what looks leaked; try again in ${left} s`,
        );
      }
      return await carryOut(
        tools,
        { held: stillLeaked(report.leaks, audit(snapshot, LEAK_REST_MS)), unhandled: [] },
        context,
      );
    }
    const records = handle === undefined ? recordsOf(addresses, snapshot, context) : recordsOfHandle(handle, snapshot);
    if (handle !== undefined && records.length === 0)
      throw new RefusedError(
        `No block has an address of handle ${handle}; if IPAMHandle ${handle.toLowerCase()} is there, gingham ipam check --fix deletes it`,
      );
    refuse(records, snapshot, force);
    return await carryOut(tools, splitByHandle(records), context);
  },
});

async function readFileOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new UsageError(`Cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Those of the report that this look calls leaked as well: the same assignment, and nothing of its handle in use. */
export function stillLeaked(
  leaks: readonly Omit<HeldAddress, "attributes">[],
  findings: readonly Finding[],
): readonly HeldAddress[] {
  const reported = new Set(leaks.map((leak) => assignmentKey({ ...leak, attributes: {} })));
  return findings.flatMap(({ fix }) => {
    return fix?.kind === "freeLeak" && reported.has(assignmentKey(fix.address)) ? [fix.address] : [];
  });
}

function recordsOf(
  addresses: readonly IP[],
  snapshot: Snapshot,
  { people }: CommandContext,
): readonly RecordedAddress[] {
  return addresses.flatMap((ip) => {
    const block = blockAround(snapshot, ip);
    const record = block && recordedAddresses(block).find((recorded) => recorded.ip === ip);
    if (record === undefined) people.write(`${formatIP(ip)} is free already\n`);
    else if (stateOf(record.attribute) === "cooling")
      people.write(`${formatIP(ip)} was given back at ${record.attribute.releasedAt}, and is cooling\n`);
    else return [record];
    return [];
  });
}

function recordsOfHandle(handleID: string, snapshot: Snapshot): readonly RecordedAddress[] {
  return liveBlocks(snapshot).flatMap((block) => {
    return recordedAddresses(block).filter(({ attribute }) => attribute.handle_id === handleID);
  });
}

/** All or nothing: who named ten addresses, one of them of a running pod, has made a mistake. @throws RefusedError */
function refuse(records: readonly RecordedAddress[], snapshot: Snapshot, force: boolean): void {
  const damaged = records.find(({ block }) => isDamaged(block));
  if (damaged !== undefined) {
    const { name } = damaged.block.metadata;
    throw new RefusedError(`IPAMBlock ${name} contradicts itself, so nothing is freed in it; see gingham ipam check`);
  }
  if (force) return;
  const reasons = records.flatMap((record) => {
    const why = whyKept(record, snapshot);
    return why === undefined ? [] : [`${formatIP(record.ip)}: ${why}`];
  });
  if (reasons.length === 0) return;
  throw new RefusedError(
    `Nothing was released. ${reasons.join(". ")}. With --force it is released, and another pod can get it at once`,
  );
}

function whyKept({ ip, block, attribute }: RecordedAddress, snapshot: Snapshot): string | undefined {
  const held = heldAddresses(block.spec).find((address) => address.ip === ip);
  if (held === undefined) return "it has no handle, so nobody can tell whether it is in use";
  const owner = ownerOf(held);
  const verdict = verdictOf(held, owner, viewOfSnapshot(snapshot));
  if (verdict.kind === "leak") return undefined;
  const { namespace, pod } = attribute.secondary ?? {};
  const who = namespace === undefined || pod === undefined ? `handle ${held.handleID}` : `pod ${namespace}/${pod}`;
  return `held for ${who}; ${KEEP_TEXT[verdict.why]}`;
}

interface ToRelease {
  readonly held: readonly HeldAddress[];
  readonly unhandled: readonly RecordedAddress[];
}

function splitByHandle(records: readonly RecordedAddress[]): ToRelease {
  const [held, unhandled]: [HeldAddress[], RecordedAddress[]] = [[], []];
  for (const record of records) {
    const found = heldAddresses(record.block.spec).find(({ ip }) => ip === record.ip);
    if (found === undefined) unhandled.push(record);
    else held.push(found);
  }
  return { held, unhandled };
}

async function carryOut(tools: ReleaseTools, { held, unhandled }: ToRelease, context: CommandContext): Promise<number> {
  const { stderr } = context;
  const { freed, errors } = await releaseAddresses(tools, held);
  const failures: unknown[] = [...errors];
  const freedUnhandled: RecordedAddress[] = [];
  for (const record of unhandled) {
    const { ordinal, sequenceNumber } = record;
    try {
      if (await releaseUnhandled(tools, { block: record.block.metadata.name, ordinal, sequenceNumber }))
        freedUnhandled.push(record);
    } catch (error) {
      failures.push(error);
    }
  }
  const done = [
    ...freed.map(({ ip, handleID, sequenceNumber, attributes }) => {
      return { address: formatIP(ip), handleID, sequenceNumber, attributes };
    }),
    ...freedUnhandled.map(({ ip, sequenceNumber, attribute }) => {
      return { address: formatIP(ip), handleID: "", sequenceNumber, attributes: attribute.secondary ?? {} };
    }),
  ];
  const changed = held.length + unhandled.length - done.length;
  await context.show(() => done.map(freedText).join("") + (done.length === 0 ? "Nothing was released.\n" : ""), {
    freed: done,
  });
  if (changed > 0 && failures.length === 0)
    stderr.write(`gingham: ${changed} were left alone: they changed hands or came free meanwhile\n`);
  for (const failure of failures) stderr.write(`gingham: ${describeError(failure)}\n`);
  return failures.length > 0 ? EXIT.problem : EXIT.ok;
}

function freedText(freed: {
  readonly address: string;
  readonly handleID: string;
  readonly sequenceNumber: bigint;
  readonly attributes: Readonly<Record<string, string>>;
}): string {
  const { namespace, pod, node } = freed.attributes;
  const owner = namespace === undefined || pod === undefined ? "" : `, of pod ${namespace}/${pod}`;
  const where = node === undefined ? "" : ` on ${node}`;
  const handle = freed.handleID === "" ? "no handle" : `handle ${freed.handleID}`;
  return `freed ${freed.address}: ${handle}, sequence number ${freed.sequenceNumber}${owner}${where}\n`;
}

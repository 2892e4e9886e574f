// SPDX-License-Identifier: Apache-2.0
import type { Allocation } from "../ipam/types.ts";
import { describeError } from "../lib/errors.ts";
import { parseJSON, stringifyJSON } from "../lib/json.ts";
import { formatCIDR } from "../net/cidr.ts";
import { formatIP } from "../net/ip.ts";
import { add } from "./commands/add.ts";
import { addAddresses } from "./commands/add-addresses.ts";
import { check } from "./commands/check.ts";
import type { CNI } from "./commands/cni.ts";
import { type DelRequest, del } from "./commands/del.ts";
import { gc } from "./commands/gc.ts";
import { status } from "./commands/status.ts";
import { delegationIn } from "./delegation/conf.ts";
import { askIfAble } from "./delegation/delegate.ts";
import type { Delegation } from "./delegation/types.ts";
import { CancelledError, toErrorObject } from "./errors.ts";
import { decodeNetConf, type NetConf, parseNetConf, parseNetwork, parseValidAttachments } from "./input/netconf.ts";
import { type PrevResult, parsePrevResult, prevResultIn } from "./input/prev-result.ts";
import { type Call, type Env, parseCall, requireCommandIn } from "./input/protocol.ts";
import {
  answerVersion,
  type CNIVersion,
  isAtLeast,
  NEWEST_VERSION,
  parseVersion,
  SUPPORTED_VERSIONS,
} from "./input/versions.ts";
import type { VerbEvent } from "./journal/types.ts";
import type { Logger } from "./ports.ts";
import { keyOf } from "./records/attachment.ts";
import { appendResult, renderIPAMResult, renderResult } from "./result.ts";
import { pendingNameIn } from "./server/envelope.ts";
import type { AttachmentID } from "./types.ts";

/** What the plugin's process gives to its caller. */
export interface Reply {
  /** One JSON object, or nothing. */
  readonly stdout: string;
  readonly exitCode: 0 | 1;
  /** The number in the error object; 0 for success. */
  readonly errorCode: number;
}

/** A call that is checked, and needs the world to go on. */
export interface Task {
  readonly cniVersion: CNIVersion;
  readonly call: Call;
  /** Container and interface are empty where a command has none. */
  readonly id: AttachmentID;
  /** What the configuration says of the node. */
  readonly nodeName?: string;
  /** Credentials that the configuration names, for a machine without an agent. */
  readonly kubeconfig?: string;
  readonly work: Work;
}

/** What a command needs besides the attachment. DEL needs no more, so that it goes through whatever is broken. */
export type Work =
  | ({
      readonly verb: "ADD";
      readonly conf: NetConf;
      readonly prevResult?: Readonly<Record<string, unknown>>;
    } & Delegated)
  | ({ readonly verb: "DEL"; readonly asked: Pick<DelRequest, "call" | "pendingName"> } & Delegated)
  | { readonly verb: "CHECK"; readonly conf: NetConf; readonly prevResult: PrevResult }
  | ({ readonly verb: "GC"; readonly valid: readonly AttachmentID[] } & Delegated)
  | ({ readonly verb: "STATUS"; readonly conf: NetConf } & Delegated);

interface Delegated {
  /** The other IPAM plugin that the configuration names. */
  readonly delegation?: Delegation;
}

/** Checks a call. A reply comes back when there is nothing more to do: VERSION, and everything that is refused. */
export function prepare(env: Env, stdin: string): { readonly reply: Reply } | { readonly task: Task } {
  try {
    const call = parseCall(env);
    if (call.command === "VERSION") return { reply: succeed(versionAnswer(stdin)) };
    const raw = decodeNetConf(stdin);
    requireCommandIn(call.command, parseVersion(raw["cniVersion"]));
    const { name: network, ...shared } = parseNetwork(raw);
    const id = { network, containerID: call.containerID, ifName: call.ifName };
    return { task: { ...shared, call, id, work: parseWork(call.command, raw, env, stdin) } };
  } catch (error) {
    return { reply: fail(error, versionOf(stdin)) };
  }
}

function parseWork(verb: Work["verb"], raw: Readonly<Record<string, unknown>>, env: Env, stdin: string): Work {
  const delegation = delegationIn(raw, env, stdin);
  const delegated = delegation && { delegation };
  switch (verb) {
    case "ADD": {
      const conf = parseNetConf(raw);
      const prevResult = isAtLeast(conf.cniVersion, "0.3.0") && prevResultIn(raw);
      return { verb, conf, ...(prevResult && { prevResult }), ...delegated };
    }
    case "STATUS":
      return { verb, conf: parseNetConf(raw), ...delegated };
    case "CHECK":
      return { verb, conf: parseNetConf(raw), prevResult: parsePrevResult(raw) };
    case "GC":
      return { verb, valid: parseValidAttachments(raw), ...delegated };
    case "DEL": {
      const pendingName = pendingNameIn(env);
      const call = { env: cniVariables(env), stdin };
      return { verb, asked: { call, ...(pendingName && { pendingName }) }, ...delegated };
    }
  }
}

/** What the launcher sends, and a pending release holds. */
function cniVariables(env: Env): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (name.startsWith("CNI_") && value ? [[name, value] as const] : [])),
  );
}

const NOTHING: Reply = { stdout: "", exitCode: 0, errorCode: 0 };

/** A call that has ended, with what log and journal tell of it. */
interface Ended extends Pick<VerbEvent, "ips" | "stepsMs"> {
  readonly reply: Reply;
  /** A line of the log. */
  readonly line?: { readonly level: keyof Logger; readonly fields: object; readonly message: string };
  /** What the journal keeps of a call that did not simply succeed. */
  readonly trouble?: string;
}

/** Runs a checked call to its end, and tells log and journal of it. Never rejects. */
export async function perform(cni: CNI, task: Task, signal?: AbortSignal): Promise<Reply> {
  const start = cni.clock.nowNs();
  const ended = await run(cni, task, signal);
  const durationMs = Number((cni.clock.nowNs() - start) / 1000n) / 1000;
  const atMs = Number(start / 1_000_000n);
  const { afterAnswer = (tell) => tell() } = cni;
  afterAnswer(() => tell(cni, task, ended, { atMs, durationMs }));
  return ended.reply;
}

function tell(
  { log, journal }: CNI,
  { id, call, work: { verb } }: Task,
  { reply, line, ips, stepsMs, trouble }: Ended,
  { atMs, durationMs }: Pick<VerbEvent, "atMs" | "durationMs">,
): void {
  const { pod } = call.args;
  if (line !== undefined) {
    const fields = { op: verb, ...id, ...(pod && { namespace: pod.namespace, pod: pod.name }), ...line.fields };
    log[line.level]({ ...fields, durationMs, ...(stepsMs && { stepsMs }) }, line.message);
  }
  // Asked every few seconds, it would push everything else out.
  if (verb === "STATUS") return;
  journal?.verb({
    atMs,
    verb: call.command,
    attachment: id,
    ...(pod && { pod }),
    durationMs,
    code: reply.errorCode,
    ...(ips && { ips }),
    ...(stepsMs && { stepsMs }),
    ...(trouble !== undefined && { message: trouble }),
  });
}

async function run(cni: CNI, task: Task, signal?: AbortSignal): Promise<Ended> {
  const { id, call, work } = task;
  const { verb } = work;
  const pod = call.args.pod;
  const delegation = "delegation" in work ? work.delegation : undefined;
  const request = { id, netns: call.netns, ...(pod && { pod }), ...(delegation && { delegation }) };
  try {
    switch (work.verb) {
      case "ADD": {
        const asked = call.asked === undefined ? {} : { asked: call.asked };
        const adding = { ...request, ...asked, conf: work.conf };
        if (work.conf.caller !== undefined) {
          const { record, existed, stepsMs } = await addAddresses(cni, adding, work.conf.caller, signal);
          const ips = record.allocations.map(({ ip }) => ip);
          const addresses = { ips: ips.map(formatIP), blocks: blocksOf(record.allocations) };
          const fields = { ...addresses, caller: work.conf.caller.type, existed };
          const reply = succeed(renderIPAMResult(record.result, task.cniVersion));
          return { reply, ips, stepsMs, line: { level: "info", fields, message: "ADD done, as IPAM" } };
        }
        const { record, existed, stepsMs } = await add(cni, adding, signal);
        const { ips } = record.result;
        const blocks = blocksOf(record.allocations);
        const fields = { ips: ips.map(formatIP), blocks, hostIface: record.hostIface, existed };
        const result = renderResult(record.result, task.cniVersion);
        const answer = work.prevResult === undefined ? result : appendResult(work.prevResult, result);
        return { reply: succeed(answer), ips, stepsMs, line: { level: "info", fields, message: "ADD done" } };
      }
      case "DEL":
        return await runDel(cni, { ...request, ...work.asked });
      case "CHECK":
        await check(cni, { ...request, ...work }, signal);
        return { reply: NOTHING, line: { level: "info", fields: {}, message: "CHECK done" } };
      case "GC": {
        const { nodeName } = task;
        const of = { network: id.network, valid: work.valid, ...(nodeName !== undefined && { nodeName }) };
        const summary = await gc(cni, of, signal);
        if (delegation !== undefined) await askIfAble(cni, "GC", delegation, signal);
        return { reply: NOTHING, line: { level: "info", fields: summary, message: "GC done" } };
      }
      case "STATUS":
        await status(cni, work.conf, delegation);
        return { reply: NOTHING };
    }
  } catch (error) {
    const line = { fields: { err: error }, ...describeFailure(error, verb, id) };
    return { reply: fail(error, task.cniVersion), line, trouble: describeError(error) };
  }
}

function describeFailure(
  error: unknown,
  verb: Work["verb"],
  id: AttachmentID,
): { readonly level: keyof Logger; readonly message: string } {
  if (error instanceof CancelledError) return { level: "warn", message: `${verb} cancelled` };
  // Runtimes ask every few seconds, and tell people themselves.
  if (verb === "STATUS") return { level: "debug", message: "STATUS is bad" };
  return { level: "error", message: `${verb} of ${verb === "GC" ? id.network : keyOf(id)} failed` };
}

function blocksOf(allocations: readonly Allocation[]): readonly string[] {
  return allocations.map(({ block }) => formatCIDR(block));
}

async function runDel(cni: CNI, request: DelRequest): Promise<Ended> {
  const outcome = await del(cni, request);
  const { found, ips, blocks, stepsMs } = outcome;
  const fields = { found, ips: ips.map(formatIP), blocks: blocks.map(formatCIDR) };
  const ended = { reply: NOTHING, ...(ips.length > 0 && { ips }), stepsMs };
  if (outcome.kind === "released") return { ...ended, line: { level: "info", fields, message: "DEL done" } };
  const { error } = outcome;
  const message = "DEL done, but the release is still to come";
  // A datastore that is only slow goes on with it; one that does not answer at all is told of by who asks it.
  const isSlow = error instanceof CancelledError;
  const told = isSlow ? { ...fields, why: error.message } : { ...fields, err: error };
  const line = { level: isSlow ? "info" : "warn", fields: told, message } as const;
  return { ...ended, line, trouble: `${message}: ${describeError(error)}` };
}

/** Checks and runs a call. Never rejects. */
export async function execute(cni: CNI, env: Env, stdin: string, signal?: AbortSignal): Promise<Reply> {
  const prepared = prepare(env, stdin);
  if ("task" in prepared) return perform(cni, prepared.task, signal);
  if (prepared.reply.exitCode !== 0) {
    cni.log.warn({ op: env["CNI_COMMAND"], answer: prepared.reply.stdout }, "Call refused");
    noteRefused(cni, env, prepared.reply);
  }
  return prepared.reply;
}

/** What was asked for is known from the environment alone, as far as it is there. */
function noteRefused(cni: CNI, env: Env, { stdout, errorCode }: Reply): void {
  const { msg } = parseJSON(stdout) as ReturnType<typeof toErrorObject>; // written by `fail`
  const verb = env["CNI_COMMAND"] ?? "";
  if (verb === "STATUS") return;
  cni.journal?.verb({
    atMs: cni.clock.nowMs(),
    verb,
    attachment: { network: "", containerID: env["CNI_CONTAINERID"] ?? "", ifName: env["CNI_IFNAME"] ?? "" },
    durationMs: 0,
    code: errorCode,
    message: `refused: ${msg}`,
  });
}

/** The answer of a call that failed. */
export function fail(error: unknown, cniVersion: string): Reply {
  const object = toErrorObject(error, cniVersion);
  return { stdout: stringifyJSON(object), exitCode: 1, errorCode: object.code };
}

function succeed(answer: object): Reply {
  return { stdout: stringifyJSON(answer), exitCode: 0, errorCode: 0 };
}

/** VERSION's input is `{"cniVersion": …}`; callers of before 1.0 send nothing. Source: CNI SPEC 1.1.0, Section 2, VERSION. */
function versionAnswer(stdin: string): object {
  const cniVersion = stdin.trim() === "" ? NEWEST_VERSION : answerVersion(decodeNetConf(stdin));
  return { cniVersion, supportedVersions: SUPPORTED_VERSIONS };
}

function versionOf(stdin: string): CNIVersion {
  try {
    return answerVersion(decodeNetConf(stdin));
  } catch {
    return NEWEST_VERSION;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { describeError } from "../lib/errors.ts";
import { stringifyJSON } from "../lib/json.ts";
import { formatIP } from "../net/ip.ts";
import { keyOf } from "./attachment.ts";
import { add } from "./commands/add.ts";
import type { CNI } from "./commands/cni.ts";
import { del } from "./commands/del.ts";
import { CancelledError, CNIError, toErrorObject } from "./errors.ts";
import type { VerbEvent } from "./journal/types.ts";
import { decodeNetConf, type NetConf, parseNetConf, parseNetwork } from "./netconf.ts";
import type { Logger } from "./ports.ts";
import { type Call, type Env, parseCall, requireCommandIn } from "./protocol.ts";
import { renderResult } from "./result.ts";
import type { AttachmentID } from "./types.ts";
import { answerVersion, type CNIVersion, NEWEST_VERSION, parseVersion, SUPPORTED_VERSIONS } from "./versions.ts";

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
  readonly id: AttachmentID;
  /** What the configuration says of the node. */
  readonly nodeName?: string;
  /** Credentials that the configuration names, for a machine without an agent. */
  readonly kubeconfig?: string;
  /** The whole configuration for ADD, which alone reads it. */
  readonly conf?: NetConf;
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
    const task = { ...shared, call, id };
    if (call.command === "DEL") return { task };
    if (call.command === "ADD") return { task: { ...task, conf: parseNetConf(raw) } };
    throw new CNIError("NotSupportedYet", `${call.command} is not supported yet by gingham; use ADD, DEL and VERSION`);
  } catch (error) {
    return { reply: fail(error, versionOf(stdin)) };
  }
}

/** A call that has ended, with what the journal tells of it. */
type Ended = Reply & Pick<VerbEvent, "ips" | "stepsMs" | "message">;

/** Runs a checked call to its end, and notes it in the journal. Never rejects. */
export async function perform(cni: CNI, task: Task, signal?: AbortSignal): Promise<Reply> {
  const { id, call } = task;
  const pod = call.args.pod;
  const start = cni.clock.nowNs();
  const { stdout, exitCode, errorCode, ...told } = await run(cni, task, signal);
  cni.journal?.verb({
    atMs: Number(start / 1_000_000n),
    verb: call.command,
    attachment: id,
    ...(pod && { pod }),
    durationMs: Number((cni.clock.nowNs() - start) / 1000n) / 1000,
    code: errorCode,
    ...told,
  });
  return { stdout, exitCode, errorCode };
}

async function run(cni: CNI, task: Task, signal?: AbortSignal): Promise<Ended> {
  const { id, call, conf } = task;
  const pod = call.args.pod;
  const log = bind(cni.log, { op: call.command, ...id, ...(pod && { namespace: pod.namespace, pod: pod.name }) });
  const start = cni.clock.nowMs();
  try {
    const request = { id, netns: call.netns, ...(pod && { pod }) };
    if (conf === undefined) {
      const outcome = await del(cni, request);
      const fields = { durationMs: cni.clock.nowMs() - start, found: outcome.found };
      const reply = { stdout: "", exitCode: 0, errorCode: 0 } as const;
      if (outcome.kind === "deferred") {
        const message = "DEL done, but the release waits for the datastore";
        log.warn({ ...fields, err: outcome.error }, message);
        return { ...reply, message: `${message}: ${describeError(outcome.error)}` };
      }
      log.info(fields, "DEL done");
      return reply;
    }
    const { record, existed, stepsMs } = await add(
      cni,
      { ...request, conf, ...(call.asked !== undefined && { asked: call.asked }) },
      signal,
    );
    const ips = record.result.ips.map(formatIP);
    log.info({ ips, hostIface: record.hostIface, existed, stepsMs }, "ADD done");
    return { ...succeed(renderResult(record.result, task.cniVersion)), ips: record.result.ips, stepsMs };
  } catch (error) {
    const durationMs = cni.clock.nowMs() - start;
    if (error instanceof CancelledError) log.warn({ durationMs, err: error }, `${call.command} cancelled`);
    else log.error({ durationMs, err: error }, `${call.command} of ${keyOf(id)} failed`);
    return { ...fail(error, task.cniVersion), message: describeError(error) };
  }
}

/** Checks and runs a call. Never rejects. */
export async function execute(cni: CNI, env: Env, stdin: string, signal?: AbortSignal): Promise<Reply> {
  const prepared = prepare(env, stdin);
  if ("task" in prepared) return perform(cni, prepared.task, signal);
  if (prepared.reply.exitCode !== 0) {
    cni.log.warn({ op: env["CNI_COMMAND"], answer: prepared.reply.stdout }, "Call refused");
  }
  return prepared.reply;
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

function bind(log: Logger, fixed: object): Logger {
  return {
    debug: (fields, message) => log.debug({ ...fixed, ...fields }, message),
    info: (fields, message) => log.info({ ...fixed, ...fields }, message),
    warn: (fields, message) => log.warn({ ...fixed, ...fields }, message),
    error: (fields, message) => log.error({ ...fixed, ...fields }, message),
  };
}

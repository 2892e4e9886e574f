// SPDX-License-Identifier: Apache-2.0
import { describeError } from "../../lib/errors.ts";
import { parseJSON, stringifyJSON } from "../../lib/json.ts";
import type { IP } from "../../net/ip.ts";
import { bounded, type CNI } from "../commands/cni.ts";
import { CancelledError, CNI_CODE, CNIError, MissingPluginError } from "../errors.ts";
import type { Command } from "../input/protocol.ts";
import { wantsPodCIDRs, withPodCIDRs } from "./conf.ts";
import { type IPAMAnswer, parseIPAMAnswer } from "./result.ts";
import type { Delegation } from "./types.ts";

/** How long a plugin may take, a release apart, which is bounded as one of our own. Units: milliseconds. */
const CALL_MS = 30_000;

/** What is no error object is quoted to see what it is, not to be read. Units: characters. */
const MAX_QUOTED = 200;

/** A delegated plugin failed. */
export class DelegateError extends CNIError {
  /** The number in the plugin's own error object; 0 when it gave none. */
  readonly delegateCode: number;

  constructor(message: string, delegateCode = 0, options?: ErrorOptions) {
    super("Delegate", message, options);
    this.delegateCode = delegateCode;
  }
}

/** Whether the plugin itself said no, as for its configuration: it would say so for ever. */
export function isRefusal(error: unknown): boolean {
  return error instanceof DelegateError && error.delegateCode !== 0;
}

/**
 * The delegation with the node's networks in its configuration, ready to be called and to be recorded.
 *
 * @throws CNIError `Delegate`; errors of the API
 */
export async function completed(cni: CNI, delegation: Delegation, signal?: AbortSignal): Promise<Delegation> {
  if (!wantsPodCIDRs(delegation)) return delegation;
  if (cni.podCIDRs === undefined) throw new DelegateError("usePodCidr needs an agent; write the subnet into ipam");
  return withPodCIDRs(delegation, cni.host.nodeName, await cni.podCIDRs(signal));
}

/**
 * Has the plugin give addresses. Whoever calls must have seen to it that `release` is called when this fails, since a
 * plugin that was killed may have reserved some. Source: CNI SPEC 1.1.0, Section 4.
 */
export async function request(
  cni: CNI,
  delegation: Delegation,
  signal: AbortSignal,
): Promise<{ readonly delegation: Delegation; readonly given: IPAMAnswer }> {
  const text = await call(cni, "ADD", delegation, signal);
  try {
    return { delegation: { ...delegation, answer: text }, given: parseIPAMAnswer(delegation.type, text) };
  } catch (cause) {
    const what = `IPAM plugin ${delegation.type} answered ADD with what is no result`;
    throw new DelegateError(`${what}: ${describeError(cause)}`, 0, { cause });
  }
}

/** The addresses that a plugin has given; none when nobody knows. */
export function givenBy({ type, answer }: Delegation): readonly IP[] {
  try {
    return answer === undefined ? [] : parseIPAMAnswer(type, answer).ips;
  } catch {
    return [];
  }
}

/** Has the plugin take its addresses back, in bounded time. Idempotent, as far as the plugin is. */
export async function release(cni: CNI, delegation: Delegation, signal?: AbortSignal): Promise<void> {
  try {
    // What is recorded has its networks; a configuration that the runtime has just handed in needs only something to read.
    await call(cni, "DEL", withPodCIDRs(delegation, cni.host.nodeName, undefined), signal);
  } catch (error) {
    // Nobody knows of an address that it gave; a person would have to install it just to be told so.
    if (!(error instanceof MissingPluginError) || delegation.answer !== undefined) throw error;
    cni.log.warn(
      { op: "DEL", plugin: delegation.type, err: error },
      "IPAM plugin is missing; it can have given nothing",
    );
  }
}

/** Has the plugin look for its addresses: it is shown the answer that it gave, of which the runtime knows only a part. */
export async function checkBy(cni: CNI, delegation: Delegation, signal: AbortSignal): Promise<void> {
  const { conf, answer } = delegation;
  const raw = parseJSON(conf) as Record<string, unknown>; // decoded before, as an object
  const shown = answer === undefined ? conf : stringifyJSON({ ...raw, prevResult: parseJSON(answer) });
  await call(cni, "CHECK", { ...delegation, conf: shown }, signal);
}

/** STATUS and GC, which a plugin from before 1.1.0 does not have: then there is nothing to hear, and nothing to do. */
export async function askIfAble(
  cni: CNI,
  command: "STATUS" | "GC",
  delegation: Delegation,
  signal?: AbortSignal,
): Promise<void> {
  const ready =
    command === "GC"
      ? withPodCIDRs(delegation, cni.host.nodeName, undefined)
      : await completed(cni, delegation, signal);
  try {
    await call(cni, command, ready, signal);
  } catch (error) {
    if (!(error instanceof DelegateError) || !isUnableCode(error.delegateCode)) throw error;
    cni.log.debug({ op: command, plugin: delegation.type }, `IPAM plugin knows no ${command}`);
  }
}

/** The plugin speaks an older version, or does not know the command, which it calls a bad environment. */
function isUnableCode(code: number): boolean {
  return code === CNI_CODE.IncompatibleVersion || code === CNI_CODE.InvalidEnvironment;
}

/** @returns what it wrote to stdout */
async function call(cni: CNI, command: Command, delegation: Delegation, signal?: AbortSignal): Promise<string> {
  const { type, env, conf } = delegation;
  if (cni.delegates === undefined) throw new MissingPluginError(`Nobody here can execute IPAM plugin ${type}`);
  const { delegates } = cni;
  const ms = command === "DEL" ? cni.releaseWaitMs : CALL_MS;
  const limits = { what: `${command} of IPAM plugin ${type}`, ms, ...(signal && { signal }) };
  const execution = { type, env: { ...env, CNI_COMMAND: command }, stdin: conf };
  try {
    const { exitCode, stdout, stderr } = await bounded(cni.clock, limits, (within) => delegates.run(execution, within));
    if (exitCode === 0) return stdout;
    const { code, message } = readFailure(stdout);
    const why = message || stderr.trim().slice(-500) || `exit status ${exitCode ?? "unknown: it was killed"}`;
    throw new DelegateError(
      `IPAM plugin ${type} failed ${command}${code === 0 ? "" : ` with code ${code}`}: ${why}`,
      code,
    );
  } catch (error) {
    if (!(error instanceof CancelledError) || signal?.aborted === true) throw error;
    // Not "try again later": that means the datastore to whoever works on many releases, and this plugin hangs alone.
    const step = `look at what ${type} waits for`;
    throw new DelegateError(`${limits.what} has not ended within ${ms} ms and was killed; ${step}`, 0, {
      cause: error,
    });
  }
}

function readFailure(stdout: string): { readonly code: number; readonly message: string } {
  try {
    const { code, msg, details } = parseJSON(stdout) as Readonly<Record<string, unknown>>;
    const texts = [msg, details].filter((text) => typeof text === "string" && text !== "");
    return { code: typeof code === "number" ? code : 0, message: texts.join(": ") };
  } catch {
    const said = stdout.trim();
    return { code: 0, message: said.length > MAX_QUOTED ? `${said.slice(0, MAX_QUOTED)}…` : said };
  }
}

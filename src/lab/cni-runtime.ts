// SPDX-License-Identifier: Apache-2.0
import { PluginError } from "./errors.ts";
import type { RunResult } from "./run.ts";

/**
 * A container runtime's side of CNI: reads a configuration list and runs its plugins one after the other, the way
 * libcni does for containerd. Pure but for the two ports, which run a program and keep a result.
 *
 * Source: CNI SPEC 1.0.0, section 3 "Execution of Network Configurations".
 */

export interface Conflist {
  readonly name: string;
  readonly cniVersion: string;
  /** CHECK is not to be sent: some plugin of the list fails it although all is well. */
  readonly disableCheck?: boolean;
  readonly plugins: readonly PluginConf[];
}

export interface PluginConf {
  readonly type: string;
  readonly capabilities?: Readonly<Record<string, boolean>>;
  readonly [key: string]: unknown;
}

/** One interface of one container. */
export interface Attachment {
  readonly containerID: string;
  /** Path of the namespace as the plugin sees it; empty in the second DEL that containerd sends. */
  readonly netns: string;
  readonly ifName: string;
  /** CNI_ARGS, in this order. */
  readonly args: readonly (readonly [string, string])[];
  /** Handed to the plugins that declare the capability of that name, and to no other. */
  readonly capabilityArgs: Readonly<Record<string, unknown>>;
}

/** The result of an ADD; only the fields that the laboratory reads. */
export interface AddResult {
  readonly cniVersion?: string;
  readonly interfaces?: readonly { readonly name: string; readonly mac?: string; readonly sandbox?: string }[];
  readonly ips?: readonly { readonly address: string; readonly gateway?: string; readonly interface?: number }[];
}

/** Runs a plugin by its type, found along CNI_PATH, with this environment and standard input. */
export type ExecutePlugin = (
  type: string,
  call: { readonly env: Readonly<Record<string, string>>; readonly stdin: string },
) => Promise<RunResult>;

/** Keeps the result of an ADD for its DEL. */
export interface ResultCache {
  load(key: string): Promise<AddResult | undefined>;
  store(key: string, result: AddResult): Promise<void>;
  remove(key: string): Promise<void>;
}

/** @throws SyntaxError when the text is no configuration list */
export function parseConflist(text: string): Conflist {
  const value: unknown = JSON.parse(text);
  if (!isRecord(value) || typeof value["name"] !== "string" || typeof value["cniVersion"] !== "string")
    throw new SyntaxError("Not a CNI configuration list: it needs name and cniVersion");
  const { name, cniVersion, disableCheck, plugins } = value;
  if (!Array.isArray(plugins) || plugins.length === 0 || !plugins.every(isPluginConf))
    throw new SyntaxError(`Not a CNI configuration list: ${name} needs plugins, each with a type`);
  return { name, cniVersion, ...(disableCheck === true && { disableCheck }), plugins };
}

/** What one plugin reads from standard input. */
export function renderPluginConf(
  list: Pick<Conflist, "name" | "cniVersion">,
  plugin: PluginConf,
  call: { readonly prevResult?: AddResult; readonly capabilityArgs: Readonly<Record<string, unknown>> },
): Readonly<Record<string, unknown>> {
  const declared = Object.entries(plugin.capabilities ?? {}).filter(([, supported]) => supported);
  const runtimeConfig = Object.fromEntries(
    declared.filter(([name]) => name in call.capabilityArgs).map(([name]) => [name, call.capabilityArgs[name]]),
  );
  return {
    ...plugin,
    name: list.name,
    cniVersion: list.cniVersion,
    ...(call.prevResult === undefined ? {} : { prevResult: call.prevResult }),
    // A runtimeConfig that somebody wrote into the file stays when the runtime has nothing to say.
    ...(Object.keys(runtimeConfig).length === 0 ? {} : { runtimeConfig }),
  };
}

export function renderEnvironment(
  command: string,
  attachment: Attachment,
  pluginPath: string,
): Readonly<Record<string, string>> {
  return {
    CNI_COMMAND: command,
    CNI_CONTAINERID: attachment.containerID,
    CNI_NETNS: attachment.netns,
    CNI_IFNAME: attachment.ifName,
    CNI_ARGS: attachment.args.map(([key, value]) => `${key}=${value}`).join(";"),
    CNI_PATH: pluginPath,
  };
}

export class CNIRuntime {
  readonly #list: Conflist;
  readonly #execute: ExecutePlugin;
  readonly #cache: ResultCache;
  readonly #pluginPath: string;

  constructor(list: Conflist, ports: { execute: ExecutePlugin; cache: ResultCache; pluginPath: string }) {
    this.#list = list;
    this.#execute = ports.execute;
    this.#cache = ports.cache;
    this.#pluginPath = ports.pluginPath;
  }

  /**
   * Each plugin gets the result of the one before it; the last one's result is kept for DEL. After a failure nothing
   * is undone here: as with containerd, the caller sends DEL.
   *
   * @throws PluginError
   */
  async add(attachment: Attachment): Promise<AddResult> {
    let result: AddResult | undefined;
    for (const plugin of this.#list.plugins) {
      const stdout = await this.#call("ADD", plugin, attachment, result);
      result = parseResult(stdout, plugin.type);
    }
    if (result === undefined) throw new RangeError(`Configuration list ${this.#list.name} has no plugin`);
    await this.#cache.store(this.#key(attachment), result);
    return result;
  }

  /** In reverse order, each with the kept result of ADD, if there is one. @throws PluginError */
  async del(attachment: Attachment): Promise<void> {
    const prevResult = await this.#cache.load(this.#key(attachment));
    for (const plugin of this.#list.plugins.toReversed()) await this.#call("DEL", plugin, attachment, prevResult);
    await this.#cache.remove(this.#key(attachment));
  }

  /**
   * In the order of ADD, each with the kept result; does nothing when the list says `disableCheck`.
   *
   * @throws PluginError the first complaint
   */
  async check(attachment: Attachment): Promise<void> {
    if (this.#list.disableCheck === true) return;
    const prevResult = await this.#cache.load(this.#key(attachment));
    for (const plugin of this.#list.plugins) await this.#call("CHECK", plugin, attachment, prevResult);
  }

  async #call(command: string, plugin: PluginConf, attachment: Attachment, prevResult?: AddResult): Promise<string> {
    const conf = renderPluginConf(this.#list, plugin, {
      capabilityArgs: attachment.capabilityArgs,
      ...(prevResult === undefined ? {} : { prevResult }),
    });
    const { exitCode, stdout, stderr } = await this.#execute(plugin.type, {
      env: renderEnvironment(command, attachment, this.#pluginPath),
      stdin: JSON.stringify(conf),
    });
    if (exitCode !== 0) throw toPluginError(plugin.type, command, { exitCode, stdout, stderr });
    return stdout;
  }

  #key(attachment: Attachment): string {
    return `${this.#list.name}-${attachment.containerID}-${attachment.ifName}`;
  }
}

function parseResult(stdout: string, type: string): AddResult {
  const value = parseRecord(stdout);
  if (value === undefined)
    throw new PluginError({ plugin: type, command: "ADD", cniCode: 0, text: `no result on stdout: ${stdout.trim()}` });
  return value;
}

function toPluginError(plugin: string, command: string, { exitCode, stdout, stderr }: RunResult): PluginError {
  const error = parseRecord(stdout);
  const [code, msg, details] = [error?.["code"], error?.["msg"], error?.["details"]];
  if (typeof code !== "number" || typeof msg !== "string") {
    const text = `exit status ${exitCode} and no error object: ${stdout.trim()} ${stderr.trim()}`.trim();
    return new PluginError({ plugin, command, cniCode: 0, text });
  }
  const text = typeof details === "string" && details !== "" ? `${msg}; ${details}` : msg;
  return new PluginError({ plugin, command, cniCode: code, text });
}

function parseRecord(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isPluginConf(value: unknown): value is PluginConf {
  return isRecord(value) && typeof value["type"] === "string";
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// SPDX-License-Identifier: Apache-2.0
import { type IP, parseIP } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";
import type { PodRef } from "../types.ts";
import { type CNIVersion, isAtLeast } from "./versions.ts";

/** Environment, as the launcher or the process hands it over. */
export type Env = Readonly<Record<string, string | undefined>>;

export const COMMANDS = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] as const;
export type Command = (typeof COMMANDS)[number];

/** The checked parameters of one call. Source: CNI SPEC 1.1.0, Section 2, Parameters. */
export interface Call {
  readonly command: Command;
  /** Empty only for commands that have none (GC, STATUS, VERSION). */
  readonly containerID: string;
  readonly ifName: string;
  /** Empty for these, and for a DEL whose namespace is gone. */
  readonly netns: string;
  readonly args: CNIArgs;
  /** ADD only: the address that the arguments ask for. */
  readonly asked?: IP;
}

export interface CNIArgs {
  /** Set when Kubernetes is behind the call: a name and a namespace. A name alone is podman's container name. */
  readonly pod?: PodRef;
  readonly infraContainerID?: string;
  /** The address asked for, as it was written. */
  readonly ip?: string;
}

type Need = "required" | "optional";

interface Variable {
  readonly name: string;
  /** Commands that take the variable. Absent: the command ignores it, whatever it holds (podman sends dummies). */
  readonly commands: Partial<Record<Command, Need>>;
  /** Why the value cannot be, or undefined when it can. */
  readonly complain: (value: string) => string | undefined;
}

const ALPHANUMERIC_FIRST = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
/** `CONTAINERID:IFNAME.json` is a file name of at most 255 bytes. */
const MAX_CONTAINER_ID = 230;

const VARIABLES: readonly Variable[] = [
  {
    name: "CNI_CONTAINERID",
    commands: { ADD: "required", DEL: "required", CHECK: "required" },
    complain: (value) => {
      if (!ALPHANUMERIC_FIRST.test(value)) return "must be letters, digits, _ . - and begin with a letter or digit";
      return value.length > MAX_CONTAINER_ID
        ? `has ${value.length} characters, at most ${MAX_CONTAINER_ID}`
        : undefined;
    },
  },
  {
    name: "CNI_NETNS",
    commands: { ADD: "required", DEL: "optional", CHECK: "required" },
    complain: (value) => (value.startsWith("/") ? undefined : "must be an absolute path of a network namespace"),
  },
  {
    name: "CNI_IFNAME",
    commands: { ADD: "required", DEL: "required", CHECK: "required" },
    complain: complainOfIfName,
  },
];

/**
 * Source: linux net/core/dev.c, dev_valid_name (IFNAMSIZ 16 with the final zero) and __dev_alloc_name, which puts a number
 * in the place of `%d`; net/ipv4/devinet.c, where two names are taken for settings. The byte that was no UTF-8 is lost.
 */
function complainOfIfName(value: string): string | undefined {
  if (Buffer.byteLength(value) > 15) return `has ${Buffer.byteLength(value)} bytes, an interface name at most 15`;
  if (/^(\.\.?|all|default)$/.test(value) || /[/:%\s\u{fffd}]/u.test(value))
    return "is no interface name: no / : % or blank, UTF-8, and not . .. all default";
  return undefined;
}

/** The first specification that has the command. */
const SINCE: Partial<Record<Command, CNIVersion>> = { CHECK: "0.4.0", GC: "1.1.0", STATUS: "1.1.0" };

/** @throws CNIError InvalidEnvironment, which names every variable that is missing, or else the bad one */
export function parseCall(env: Env): Call {
  const command = parseCommand(env["CNI_COMMAND"]);
  const missing = VARIABLES.filter((v) => v.commands[command] === "required" && !env[v.name]).map((v) => v.name);
  if (missing.length > 0) {
    throw new CNIError("InvalidEnvironment", `${command} needs ${missing.join(", ")}: not set or empty`);
  }
  for (const { name, commands, complain } of VARIABLES) {
    const value = env[name];
    const reason = value && commands[command] !== undefined ? complain(value) : undefined;
    if (reason !== undefined) throw new CNIError("InvalidEnvironment", `${name} ${JSON.stringify(value)} ${reason}`);
  }
  const taken = (name: string) =>
    (VARIABLES.some((v) => v.name === name && v.commands[command]) ? env[name] : "") ?? "";
  const containerID = taken("CNI_CONTAINERID");
  const args = containerID === "" ? {} : readArgs(command, env["CNI_ARGS"] ?? "");
  const call = { command, containerID, ifName: taken("CNI_IFNAME"), netns: taken("CNI_NETNS"), args };
  if (command !== "ADD") return call;
  const asked = checkArgs(containerID, args, env["CNI_ARGS"] ?? "");
  return { ...call, ...(asked !== undefined && { asked }) };
}

/** @throws CNIError IncompatibleVersion when the configuration is of a version that has no such command */
export function requireCommandIn(command: Command, cniVersion: CNIVersion): void {
  const since = SINCE[command];
  if (since !== undefined && !isAtLeast(cniVersion, since)) {
    throw new CNIError(
      "IncompatibleVersion",
      `${command} exists since CNI ${since}, but the network configuration is of cniVersion ${cniVersion}`,
    );
  }
}

function parseCommand(value: string | undefined): Command {
  const command = COMMANDS.find((known) => known === value);
  if (command !== undefined) return command;
  const found = value ? `is ${JSON.stringify(value)}` : "is not set";
  throw new CNIError("InvalidEnvironment", `CNI_COMMAND ${found}; it must be one of ${COMMANDS.join(", ")}`);
}

/** A DEL must go through whatever else is wrong, and the attachment's record knows the pod. */
function readArgs(command: Command, text: string): CNIArgs {
  try {
    return parseArgs(text);
  } catch (error) {
    if (command !== "DEL") throw error;
    return {};
  }
}

/**
 * Reads `K=V;K=V`. Keys that nobody knows are ignored whatever IgnoreUnknown says, as Calico's plugin does.
 *
 * @throws CNIError InvalidEnvironment
 */
export function parseArgs(text: string): CNIArgs {
  const pairs = new Map<string, string>();
  for (const pair of text.split(";")) {
    if (pair.trim() === "") continue;
    const at = pair.indexOf("=");
    if (at <= 0) throw badArgs(text, `${JSON.stringify(pair)} is not KEY=VALUE`);
    const [key, value] = [pair.slice(0, at).trim(), pair.slice(at + 1)];
    const before = pairs.get(key);
    if (before !== undefined && before !== value) throw badArgs(text, `${key} is given twice with different values`);
    pairs.set(key, value);
  }
  const get = (key: string): string | undefined => pairs.get(key) || undefined;
  const [name, namespace, uid] = [get("K8S_POD_NAME"), get("K8S_POD_NAMESPACE"), get("K8S_POD_UID")];
  const [infraContainerID, ip] = [get("K8S_POD_INFRA_CONTAINER_ID"), get("IP")];
  return {
    ...(name && namespace ? { pod: { namespace, name, ...(uid && { uid }) } } : {}),
    ...(infraContainerID && { infraContainerID }),
    ...(ip && { ip }),
  };
}

/**
 * Only ADD refuses these: a DEL must go through whatever else is wrong.
 *
 * @returns the address asked for
 */
function checkArgs(containerID: string, args: CNIArgs, text: string): IP | undefined {
  if (args.infraContainerID !== undefined && args.infraContainerID !== containerID) {
    throw badArgs(text, `K8S_POD_INFRA_CONTAINER_ID differs from CNI_CONTAINERID ${JSON.stringify(containerID)}`);
  }
  // The texts that CNI's own library reads as a boolean; unknown keys are ignored whatever it says.
  const [, ignoreUnknown = ""] = /(?:^|;)\s*IgnoreUnknown\s*=([^;]*)/.exec(text) ?? [];
  if (!/^(?:0|1|true|false)?$/i.test(ignoreUnknown)) {
    throw badArgs(text, `IgnoreUnknown is ${JSON.stringify(ignoreUnknown)}, want 1, 0, true or false`);
  }
  if (args.ip === undefined) return undefined;
  try {
    return parseIP(args.ip);
  } catch {
    throw badArgs(text, `IP is ${JSON.stringify(args.ip)}, want one address such as 10.0.0.5`);
  }
}

function badArgs(text: string, reason: string): CNIError {
  return new CNIError("InvalidEnvironment", `CNI_ARGS ${JSON.stringify(text)}: ${reason}`);
}

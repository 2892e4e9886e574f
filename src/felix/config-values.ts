// SPDX-License-Identifier: Apache-2.0
import { parseGoDuration } from "../lib/go-duration.ts";
import { type CIDR, hostCIDR, parseCIDR } from "../net/cidr.ts";
import { type Family, type IP, parseIP } from "../net/ip.ts";
import { ConfigError } from "./errors.ts";
import { type AddressSetting, type DetectionMethod, parseAddress, parseMethod } from "./node-address/settings.ts";

/** A value as somebody wrote it, and the name under which it was given: `--vxlan-vni`, `FELIX_VXLANVNI`. */
export interface Given {
  readonly text: string;
  readonly option: string;
}

export type LogLevel = "debug" | "info" | "warn" | "error" | "fatal";

const LOG_LEVELS: Readonly<Record<string, LogLevel>> = {
  // The log has nothing finer.
  trace: "debug",
  debug: "debug",
  info: "info",
  warning: "warn",
  warn: "warn",
  error: "error",
  fatal: "fatal",
};

/** Kubernetes' names, and prefixes of keys, are DNS subdomains. Source: RFC 1123 section 2.1. */
const NODE_NAME = /^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/;
export const MIN_IPV4_MTU = 68;
const MAX_INTERVAL_MS = 86_400_000;

/** Each of these reads a value, or throws ConfigError that names the option and says what it wants. */

export function textOf({ text }: Given): string {
  return text;
}

export function integerOf({ text, option }: Given, min: number, max: number): number {
  const value = Number(text);
  if (/^\d{1,9}$/.test(text) && value >= min && value <= max) return value;
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want a whole number from ${min} to ${max}`);
}

/** Key of a taint: as that of a label. @returns empty for none. Source: Kubernetes, "Labels and Selectors", syntax. */
export function taintOf({ text, option }: Given): string {
  if (text === "none") return "";
  const [name = "", prefix, ...rest] = text.split("/").toReversed();
  const isName = /^[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?$/.test(name);
  if (isName && rest.length === 0 && (prefix === undefined || NODE_NAME.test(prefix))) return text;
  throw new ConfigError(
    option,
    `got ${JSON.stringify(text)}, want the key of a taint, such as example.com/not-ready, or none`,
  );
}

/** 0: not given. */
export function mtuOf(given: Given): number {
  const bytes = integerOf(given, 0, 65_535);
  if (bytes === 0 || bytes >= MIN_IPV4_MTU) return bytes;
  throw new ConfigError(given.option, `got ${bytes}, want 0 or at least ${MIN_IPV4_MTU} bytes`);
}

export function portOf(given: Given): number {
  return integerOf(given, 0, 65_535);
}

/** As Go writes durations; a number alone is in seconds, as in Calico's variables. @returns milliseconds */
export function intervalOf({ text, option }: Given): number {
  const ms = parseGoDuration(/^\d+(\.\d+)?$/.test(text) ? `${text}s` : text);
  if (ms !== undefined && ms >= 1000 && ms <= MAX_INTERVAL_MS) return ms;
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want 1s to 24h, such as 90s or 2m`);
}

export function nodeNameOf({ text, option }: Given, hostName: string): string {
  const name = text || hostName.toLowerCase();
  if (NODE_NAME.test(name)) return name;
  const from = text === "" ? " (the host name)" : "";
  throw new ConfigError(option, `${JSON.stringify(name)}${from} is no name of a Node object; set it to one`);
}

export function absolutePath({ text, option }: Given): string {
  if (text.startsWith("/")) return text;
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want an absolute path`);
}

export function logLevelOf({ text, option }: Given): LogLevel {
  const level = LOG_LEVELS[text.toLowerCase()];
  if (level !== undefined) return level;
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want Debug, Info, Warning, Error or Fatal`);
}

/** In whatever case. */
export function oneOf<T extends string>(values: readonly T[], { text, option }: Given): T {
  const found = values.find((value) => value.toLowerCase() === text.toLowerCase());
  if (found !== undefined) return found;
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want ${values.join(", ")}`);
}

export function isOn(given: Given): boolean {
  return oneOf(["on", "off"], given) === "on";
}

/** Undefined: not given. */
export function isTrueOf(given: Given): boolean | undefined {
  return given.text === "" ? undefined : oneOf(["true", "false"], given) === "true";
}

/** Undefined: not given. */
export function portRangeOf({ text, option }: Given): { readonly min: number; readonly max: number } | undefined {
  if (text === "") return undefined;
  const [min = 0, max = min, ...rest] = text.split(":").map((port) => (/^\d{1,5}$/.test(port) ? Number(port) : 0));
  if (min >= 1 && max >= min && max <= 65_535 && rest.length === 0) return { min, max };
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want two ports from 1 to 65535, as 32768:65535`);
}

/** Undefined: not given. */
export function addressOf({ text, option }: Given): IP | undefined {
  if (text === "") return undefined;
  return reading({ text, option }, () => parseIP(text), "want an address");
}

/** Networks and single addresses, with commas between. */
export function networksOf({ text, option }: Given): readonly CIDR[] {
  const words = text.split(",").map((word) => word.trim());
  return words
    .filter((word) => word !== "")
    .map((word) =>
      reading(
        { text: word, option },
        () => (word.includes("/") ? parseCIDR(word) : hostCIDR(parseIP(word))),
        "want a network or an address",
      ),
    );
}

/** The name of a link; one that ends in + stands for all that begin so, as with iptables. Undefined: not given. @returns in nft's words */
export function ifacePatternOf({ text, option }: Given): string | undefined {
  if (text === "") return undefined;
  if (/^[^\s"/*+]{1,15}\+?$/.test(text)) return text.replace(/\+$/, "*");
  throw new ConfigError(
    option,
    `got ${JSON.stringify(text)}, want the name of a link, as eth0, or eth+ for all that begin so`,
  );
}

export function patternOf({ text, option }: Given): RegExp {
  return reading({ text, option }, () => new RegExp(text), "want a regular expression");
}

export function methodOf(given: Given, family: Family): DetectionMethod | undefined {
  return reading(given, () => parseMethod(given.text, family));
}

export function nodeAddressOf(given: Given, family: Family, method: DetectionMethod | undefined): AddressSetting {
  return reading(given, () => parseAddress(given.text, family, method));
}

/** @param want absent: the error of `parse` says it */
function reading<T>({ text, option }: Given, parse: () => T, want?: string): T {
  try {
    return parse();
  } catch (cause) {
    const wanted = want ?? (cause instanceof Error ? cause.message : String(cause));
    throw new ConfigError(option, `got ${JSON.stringify(text)}, ${wanted}`, cause);
  }
}

/** libcni reads no other files. */
export function confNameOf({ text, option }: Given): string {
  if (/^[^/.][^/]*\.conflist$/.test(text)) return text;
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want a file name that ends with .conflist`);
}

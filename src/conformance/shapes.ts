// SPDX-License-Identifier: Apache-2.0
import { type CNIVersion, isAtLeast } from "../cni/input/versions.ts";
import { parseIPWithPrefix } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";

/** The JSON that plugins print, judged by its form alone. Source: CNI SPEC 1.1.0, section 5, and those before it. */

/** Source: CNI SPEC 1.1.0, section 5, ADD Success. */
const NUMBERS_OF_A_ROUTE = ["mtu", "advmss", "priority", "table", "scope"];

type JSONObject = Readonly<Record<string, unknown>>;

/** Undefined when the text is not exactly one JSON object. */
export function parseObject(text: string): JSONObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** What is wrong with the result of an ADD; undefined when nothing is. */
export function complainOfResult(result: JSONObject, version: CNIVersion): string | undefined {
  // The first specification names the key, and plugins of its time left it out.
  if (result["cniVersion"] !== version && !(version === "0.1.0" && result["cniVersion"] === undefined))
    return `cniVersion is ${show(result["cniVersion"])}, want ${show(version)}`;
  if (!isAtLeast(version, "0.3.0")) return complainOfOldResult(result);
  if ("ip4" in result || "ip6" in result) return "has ip4 or ip6, which are of 0.2.0 and before";
  const interfaces = result["interfaces"] ?? [];
  if (!Array.isArray(interfaces)) return `interfaces is ${show(interfaces)}, want an array`;
  for (const [i, item] of interfaces.entries()) {
    if (!isObject(item) || typeof item["name"] !== "string" || item["name"] === "")
      return `interfaces[${i}] has no name`;
  }
  const ips = result["ips"] ?? [];
  if (!Array.isArray(ips)) return `ips is ${show(ips)}, want an array`;
  for (const [i, item] of ips.entries()) {
    const problem = complainOfIP(item, interfaces.length, version);
    if (problem !== undefined) return `ips[${i}] ${problem}`;
  }
  return complainOfRoutes(result["routes"] ?? []) ?? complainOfDNS(result["dns"] ?? {});
}

function complainOfRoutes(routes: unknown): string | undefined {
  if (!Array.isArray(routes)) return `routes is ${show(routes)}, want an array`;
  for (const [i, route] of routes.entries()) {
    if (!isObject(route) || !parses(parseIPWithPrefix, route["dst"]))
      return `routes[${i}] has no dst with a prefix length`;
    const gateway = route["gw"];
    if (gateway !== undefined && !parses(parseIP, gateway))
      return `routes[${i}] has the gw ${show(gateway)}, want an address`;
    const odd = NUMBERS_OF_A_ROUTE.find((key) => route[key] !== undefined && !isUint(route[key]));
    if (odd !== undefined) return `routes[${i}] has the ${odd} ${show(route[odd])}, want a number`;
  }
  return undefined;
}

function complainOfDNS(dns: unknown): string | undefined {
  if (!isObject(dns)) return `dns is ${show(dns)}, want an object`;
  const { domain } = dns;
  if (domain !== undefined && typeof domain !== "string") return `dns has the domain ${show(domain)}, want a text`;
  const odd = ["nameservers", "search", "options"].find((key) => !isListOfTexts(dns[key] ?? []));
  return odd === undefined ? undefined : `dns has the ${odd} ${show(dns[odd])}, want an array of texts`;
}

function isListOfTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}

function isUint(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) >= 0;
}

function complainOfIP(ip: unknown, interfaceCount: number, version: CNIVersion): string | undefined {
  if (!isObject(ip)) return `is ${show(ip)}, want an object`;
  const { address, gateway, interface: index, version: family } = ip;
  if (!parses(parseIPWithPrefix, address)) return `has the address ${show(address)}, want one with a prefix length`;
  if (gateway !== undefined && !parses(parseIP, gateway)) return `has the gateway ${show(gateway)}, want an address`;
  if (index !== undefined && !(Number.isInteger(index) && Number(index) >= 0 && Number(index) < interfaceCount))
    return `has the interface ${show(index)}, but there are ${interfaceCount}`;
  const wanted = String(address).includes(":") ? "6" : "4";
  if (isAtLeast(version, "1.0.0")) return family === undefined ? undefined : "has a version, which 1.0.0 removed";
  return family === wanted ? undefined : `has the version ${show(family)}, want ${show(wanted)}`;
}

function complainOfOldResult(result: JSONObject): string | undefined {
  if ("ips" in result || "interfaces" in result) return "has ips or interfaces, which came with 0.3.0";
  const found = (["ip4", "ip6"] as const).filter((key) => result[key] !== undefined);
  for (const key of found) {
    const value = result[key];
    if (!isObject(value) || !parses(parseIPWithPrefix, value["ip"])) return `${key} has no ip with a prefix length`;
  }
  return found.length === 0 ? "has neither ip4 nor ip6" : undefined;
}

/** Every address of a result that has the right form, with its prefix length. */
export function addressesOf(result: JSONObject): readonly string[] {
  const old = ["ip4", "ip6"].map((key) => result[key]).map((value) => (isObject(value) ? value["ip"] : undefined));
  const ips = Array.isArray(result["ips"]) ? result["ips"] : [];
  const texts = [...old, ...ips.map((ip: unknown) => (isObject(ip) ? ip["address"] : undefined))];
  return texts.filter((text) => typeof text === "string");
}

/** The entry of `interfaces` for the interface in the container. */
export function interfaceOf(result: JSONObject, name: string): JSONObject | undefined {
  const interfaces: readonly unknown[] = Array.isArray(result["interfaces"]) ? result["interfaces"] : [];
  return interfaces.filter(isObject).find((item) => item["name"] === name && Boolean(item["sandbox"]));
}

/**
 * What is wrong with what a failed call printed. Its `cniVersion` has a check of its own: many plugins leave it out, and
 * all else about their errors is to be seen, too. Source: CNI SPEC 1.1.0, section 5, Error.
 */
export function complainOfError(stdout: string): string | undefined {
  const error = parseObject(stdout);
  if (error === undefined) return `stdout is ${show(stdout.slice(0, 160))}, want one error object`;
  const { code, msg, details = "" } = error;
  if (!Number.isInteger(code) || Number(code) <= 0)
    return `the error has the code ${show(code)}, want a number above 0`;
  if (typeof details !== "string") return `the error has the details ${show(details)}, want a text`;
  return typeof msg === "string" && msg !== "" ? undefined : `the error has the msg ${show(msg)}, want a text`;
}

export function isObject(value: unknown): value is JSONObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parses(parse: (text: string) => unknown, value: unknown): boolean {
  if (typeof value !== "string") return false;
  try {
    parse(value);
    return true;
  } catch {
    return false;
  }
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? "not set";
}

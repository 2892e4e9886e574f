// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrFamily, formatCIDR, hostCIDR, parseCIDR, parseIPWithPrefix } from "../../net/cidr.ts";
import { type Family, familyOf, type IP, parseIP } from "../../net/ip.ts";

/** A way to find this node's address among those of its links. Source: calico-interop 4.7. */
export type DetectionMethod =
  | { readonly kind: "first-found" }
  | { readonly kind: "can-reach"; readonly destination: string }
  | { readonly kind: "interface" | "skip-interface"; readonly patterns: readonly RegExp[] }
  | { readonly kind: "cidr"; readonly cidrs: readonly CIDR[] }
  | { readonly kind: "kubernetes-internal-ip" };

/** Where this node's address of one family comes from. `node-object`: nothing was set. */
export type AddressSetting =
  | { readonly kind: "node-object" }
  | { readonly kind: "none" }
  | { readonly kind: "explicit"; readonly ip: IP; readonly prefixLength?: number }
  | { readonly kind: "detect"; readonly method: DetectionMethod };

export type AddressSettings = Readonly<Record<Family, AddressSetting>>;

const METHODS =
  "first-found, can-reach=HOST, interface=REGEX,…, skip-interface=REGEX,…, cidr=CIDR,… or kubernetes-internal-ip";

/**
 * Reads what Calico's IP or IP6 says, together with its method. An address or `none` wins over a method; `autodetect`
 * without a method is first-found; nothing at all is `node-object`.
 *
 * @throws SyntaxError with what would be right
 */
export function parseAddress(text: string, family: Family, method: DetectionMethod | undefined): AddressSetting {
  switch (text) {
    case "":
      return method === undefined ? { kind: "node-object" } : { kind: "detect", method };
    case "none":
      return { kind: "none" };
    case "autodetect":
      return { kind: "detect", method: method ?? { kind: "first-found" } };
    default: {
      const explicit = attempt(() => (text.includes("/") ? parseIPWithPrefix(text) : { ip: parseIP(text) }));
      if (explicit !== undefined && familyOf(explicit.ip) === family) return { kind: "explicit", ...explicit };
      throw new SyntaxError(`want autodetect, none, or an IPv${family} address with or without its /length`);
    }
  }
}

/** Reads what Calico's IP_AUTODETECTION_METHOD says; undefined for nothing. @throws SyntaxError with what would be right */
export function parseMethod(text: string, family: Family): DetectionMethod | undefined {
  if (text === "") return undefined;
  if (text === "first-found" || text === "kubernetes-internal-ip") return { kind: text };
  const [kind, value] = splitOnce(text);
  const values = value.split(",").filter((part) => part !== "");
  if (values.length === 0) throw new SyntaxError(`want ${METHODS}`);
  switch (kind) {
    case "can-reach":
      return { kind, destination: reachable(value, family) };
    case "interface":
    case "skip-interface":
      return { kind, patterns: values.map(patternOf) };
    case "cidr":
      return { kind, cidrs: values.map((part) => cidrOf(part, family)) };
    default:
      throw new SyntaxError(`want ${METHODS}`);
  }
}

/** As Calico writes it, for logs and findings. */
export function formatMethod(method: DetectionMethod): string {
  switch (method.kind) {
    case "can-reach":
      return `can-reach=${method.destination}`;
    case "interface":
    case "skip-interface":
      return `${method.kind}=${method.patterns.map(({ source }) => source).join(",")}`;
    case "cidr":
      return `cidr=${method.cidrs.map(formatCIDR).join(",")}`;
    case "first-found":
    case "kubernetes-internal-ip":
      return method.kind;
    default:
      return method satisfies never;
  }
}

function splitOnce(text: string): readonly [string, string] {
  const at = text.indexOf("=");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

/** An address must be of the family; a name is looked up when it is needed. */
function reachable(host: string, family: Family): string {
  const ip = attempt(() => parseIP(host));
  const isName = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/i.test(host) && /[a-z]/i.test(host);
  if (ip === undefined ? isName : familyOf(ip) === family) return host;
  throw new SyntaxError(`${JSON.stringify(host)} is neither an IPv${family} address nor a host name`);
}

/** Matches anywhere in a name, as Calico's do: `eth0` matches eth01, too; `^eth0$` does not. */
function patternOf(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new SyntaxError(`${JSON.stringify(text)} is no regular expression`, { cause: error });
  }
}

function cidrOf(text: string, family: Family): CIDR {
  const cidr = attempt(() => (text.includes("/") ? parseCIDR(text) : hostCIDR(parseIP(text))));
  if (cidr !== undefined && cidrFamily(cidr) === family) return cidr;
  throw new SyntaxError(`${JSON.stringify(text)} is no IPv${family} CIDR`);
}

function attempt<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { InvalidObjectError } from "../../crds/errors.ts";
import { FieldReader } from "../../crds/field-reader.ts";
import { parseJSON } from "../../lib/json.ts";
import { parseIPWithPrefix } from "../../net/cidr.ts";
import { type Family, familyOf, type IP, parseIP } from "../../net/ip.ts";
import { type MAC, parseMAC } from "../../net/mac.ts";
import { CNIError } from "../errors.ts";
import { type IPAMCaller, readCaller } from "../ipam-plugin/segment.ts";
import type { AttachmentID, DNS } from "../types.ts";
import { checkCalicoKeys, unsupported } from "./calico-keys.ts";
import { type CNIVersion, parseVersion } from "./versions.ts";

/** The plugin's part of a network configuration, checked. Source: calico-interop 3.2; CNI SPEC 1.1.0, Section 1. */
export interface NetConf {
  readonly cniVersion: CNIVersion;
  readonly name: string;
  /** The node for which the configuration was rendered; absent: whichever runs it. */
  readonly nodeName?: string;
  /** A file with the node's name, which counts when `nodeName` is absent. */
  readonly nodeNameFile?: string;
  /** One address of each, in this order. */
  readonly families: readonly Family[];
  /** Names or CIDRs of pools, by family; empty: any. */
  readonly pools: { readonly 4: readonly string[]; readonly 6: readonly string[] };
  /** Units: bytes; 0: the node's. */
  readonly mtuBytes: number;
  /** Queues of each end of the pair, to send and to receive. 0 leaves the kernel's default, which is one. */
  readonly queues: number;
  readonly allowIPForwarding: boolean;
  /** Default routes beside those that another IPAM plugin gives. */
  readonly includeDefaultRoutes: boolean;
  /** URLs that must answer before a pod is attached. */
  readonly readinessGates: readonly string[];
  /** Credentials for a machine without an agent. */
  readonly kubeconfig?: string;
  /** The plugin that calls Gingham as its IPAM, which then wires nothing; absent: Gingham is the one that was called. */
  readonly caller?: IPAMCaller;
  /** The other IPAM plugin that gives addresses in place of our own. */
  readonly delegatesTo?: string;
  /** MAC for the pod's end, by the runtime's capability `mac`. */
  readonly mac?: MAC;
  /** Addresses that the attachment must have, by the runtime's capability `ips`; at most one of each family. */
  readonly ips?: readonly IP[];
  readonly dns: DNS;
}

/** Source: linux drivers/net/veth.c, veth_get_num_queues. */
const MAX_QUEUES = 4096;
const VALID_ATTACHMENTS = "cni.dev/valid-attachments";
const OUR_TYPES = ["gingham", "calico"];
const OUR_IPAM_TYPES = ["gingham-ipam", "calico-ipam"];

/** @throws CNIError Undecodable */
export function decodeNetConf(stdin: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = parseJSON(stdin);
  } catch (cause) {
    throw new CNIError("Undecodable", `Network configuration on stdin is not JSON (${stdin.length} characters)`, {
      cause,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new CNIError("Undecodable", "Network configuration on stdin is not a JSON object");
  }
  return value as Readonly<Record<string, unknown>>;
}

/**
 * Reads just what every command needs. DEL reads no more, so that it goes through after the rest was changed or broken.
 *
 * @throws CNIError IncompatibleVersion, InvalidNetworkConfig
 */
export function parseNetwork(
  raw: Readonly<Record<string, unknown>>,
): Pick<NetConf, "cniVersion" | "name" | "nodeName" | "kubeconfig"> {
  const cniVersion = parseVersion(raw["cniVersion"]);
  const { kubernetes } = raw;
  const nodeName = textOrNothing(raw["nodename"]);
  const kubeconfig = isObject(kubernetes) ? textOrNothing(kubernetes["kubeconfig"]) : undefined;
  return {
    cniVersion,
    name: parseNetworkName(raw),
    ...(nodeName !== undefined && { nodeName }),
    ...(kubeconfig !== undefined && { kubeconfig }),
  };
}

/** @throws CNIError InvalidNetworkConfig */
export function parseNetworkName(raw: Readonly<Record<string, unknown>>): string {
  return checked(raw, readName);
}

/** A value of another type is for ADD to refuse. */
function textOrNothing(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/**
 * Unknown keys are ignored; a known key of the wrong type is refused by name.
 *
 * @throws CNIError IncompatibleVersion, InvalidNetworkConfig, UnsupportedField, NotSupportedYet
 */
export function parseNetConf(raw: Readonly<Record<string, unknown>>): NetConf {
  const cniVersion = parseVersion(raw["cniVersion"]);
  return checked(raw, (conf) => read(conf, cniVersion));
}

/**
 * The attachments that the runtime knows of a network, for GC. A list that is missing, or null, is an error: it would
 * mean to free everything.
 *
 * @throws CNIError InvalidNetworkConfig. Source: CNI SPEC 1.1.0, Section 2, GC.
 */
export function parseValidAttachments(raw: Readonly<Record<string, unknown>>): readonly AttachmentID[] {
  return checked(raw, (conf) => {
    const network = readName(conf);
    if (conf.value(VALID_ATTACHMENTS) === undefined)
      throw conf.fail(VALID_ATTACHMENTS, undefined, "the list of attachments that are to stay, [] for none");
    return conf.list(VALID_ATTACHMENTS, (value, element) => {
      const attachment = conf.nested(element, value);
      return { network, containerID: attachment.string("containerID"), ifName: attachment.string("ifname") };
    });
  });
}

function checked<T>(raw: Readonly<Record<string, unknown>>, reading: (conf: FieldReader) => T): T {
  const name = typeof raw["name"] === "string" ? raw["name"] : "";
  try {
    return reading(new FieldReader("Network configuration", name, "", raw));
  } catch (error) {
    if (!(error instanceof InvalidObjectError)) throw error;
    throw new CNIError("InvalidNetworkConfig", error.message);
  }
}

function readName(conf: FieldReader): string {
  const name = conf.string("name");
  // As a folder's name and a part of the handle, the name must be neither . nor .. nor longer than a file name.
  if (!/^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$/.test(name)) {
    throw conf.fail("name", name, "at most 200 letters, digits, _ . -, the first a letter or digit");
  }
  return name;
}

/** The other IPAM plugin that a configuration names under ours, as far as it is a name; `read` refuses what is none. */
export function otherIPAM(raw: Readonly<Record<string, unknown>>): string | undefined {
  const { type = "gingham", ipam } = raw;
  const name = isObject(ipam) ? ipam["type"] : undefined;
  if (typeof type !== "string" || !OUR_TYPES.includes(type) || typeof name !== "string") return undefined;
  return OUR_IPAM_TYPES.includes(name) || !isPluginName(name) ? undefined : name;
}

function isPluginName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(text);
}

function read(conf: FieldReader, cniVersion: CNIVersion): NetConf {
  const name = readName(conf);
  const type = conf.optionalString("type") ?? "gingham";
  if (!OUR_TYPES.includes(type)) return readAsIPAM(conf, { cniVersion, name }, type);
  checkCalicoKeys(conf);
  if (conf.value("prevResult") !== undefined && !isObject(conf.value("prevResult"))) {
    throw conf.fail("prevResult", conf.value("prevResult"), "an object");
  }
  const runtime = section(conf, "runtimeConfig", lowerCased);
  const mac = parseRuntimeMAC(runtime);
  const ips = parseRuntimeIPs(runtime);
  return {
    cniVersion,
    name,
    ...readNode(conf),
    ...readIPAM(section(conf, "ipam")),
    mtuBytes: readMTU(conf),
    queues: conf.optionalInteger("num_queues", 0, MAX_QUEUES) ?? 0,
    allowIPForwarding: section(conf, "container_settings")?.optionalBoolean("allow_ip_forwarding") ?? false,
    includeDefaultRoutes: conf.optionalBoolean("include_default_routes") ?? false,
    readinessGates: readGates(conf),
    ...(mac !== undefined && { mac }),
    ...(ips !== undefined && { ips }),
    dns: readDNS(conf, runtime),
  };
}

/**
 * A call for IPAM alone, which the configuration tells: it is the calling plugin's own, handed on whole. All but `ipam` is
 * that plugin's, and of whatever type it wants. Source: CNI SPEC 1.1.0, Section 4.
 */
function readAsIPAM(conf: FieldReader, head: Pick<NetConf, "cniVersion" | "name">, type: string): NetConf {
  const ipam = section(conf, "ipam");
  if (ipam === undefined || !OUR_IPAM_TYPES.includes(ipam.optionalString("type") ?? "")) {
    throw unsupported("type", type, `want gingham; under another plugin ipam.type must be ${OUR_IPAM_TYPES[0]}`);
  }
  const ips = parseRuntimeIPs(section(conf, "runtimeConfig", lowerCased));
  return {
    ...head,
    ...readNode(conf),
    ...readFamilies(ipam),
    ...(ips !== undefined && { ips }),
    caller: readCaller(type, ipam),
    mtuBytes: 0,
    queues: 0,
    allowIPForwarding: false,
    includeDefaultRoutes: false,
    readinessGates: [],
    dns: {},
  };
}

function readNode(conf: FieldReader): Pick<NetConf, "nodeName" | "nodeNameFile" | "kubeconfig"> {
  const nodeName = conf.optionalString("nodename") || undefined;
  const nodeNameFile = conf.optionalString("nodename_file") || undefined;
  const kubeconfig = section(conf, "kubernetes")?.optionalString("kubeconfig") || undefined;
  return {
    ...(nodeName !== undefined && { nodeName }),
    ...(nodeNameFile !== undefined && { nodeNameFile }),
    ...(kubeconfig !== undefined && { kubeconfig }),
  };
}

function readGates(conf: FieldReader): readonly string[] {
  const urls = conf.strings("readiness_gates");
  const wrong = urls.findIndex((url) => !/^https?:\/\//.test(url) || !URL.canParse(url));
  if (wrong >= 0) throw conf.fail(`readiness_gates[${wrong}]`, urls[wrong], "an http or https URL");
  return urls;
}

function readMTU(conf: FieldReader): number {
  const mtu = conf.optionalInteger("mtu", 0, 65535) ?? 0;
  if (mtu !== 0 && mtu < 68) throw conf.fail("mtu", mtu, "0 or an integer from 68 to 65535");
  return mtu;
}

function readIPAM(ipam: FieldReader | undefined): Pick<NetConf, "families" | "pools" | "delegatesTo"> {
  if (ipam === undefined) return { families: [4], pools: { 4: [], 6: [] } };
  const type = ipam.optionalString("type") || "gingham-ipam";
  if (OUR_IPAM_TYPES.includes(type)) return readFamilies(ipam);
  if (!isPluginName(type)) throw ipam.fail("type", type, "the name of an IPAM plugin");
  if (type === "dhcp") {
    throw unsupported("ipam.type", type, "a pod is on no segment where a DHCP server could hear it; use gingham-ipam");
  }
  return { families: [], pools: { 4: [], 6: [] }, delegatesTo: type };
}

function readFamilies(ipam: FieldReader): Pick<NetConf, "families" | "pools"> {
  const families: Family[] = [];
  if (readSwitch(ipam, "assign_ipv4", true)) families.push(4);
  if (readSwitch(ipam, "assign_ipv6", false)) families.push(6);
  if (families.length === 0)
    throw ipam.fail("assign_ipv4", "false", "true for at least one of assign_ipv4 and assign_ipv6");
  return { families, pools: { 4: ipam.strings("ipv4_pools"), 6: ipam.strings("ipv6_pools") } };
}

/** Calico writes these as strings; people write booleans. */
function readSwitch(reader: FieldReader, field: string, fallback: boolean): boolean {
  const value = reader.value(field);
  if (value === undefined || value === "") return fallback;
  if (value === true || value === "true") return true;
  if (value === false || value === "false") return false;
  throw reader.fail(field, value, 'true or false, or "true" or "false"');
}

/** `dns` of the configuration, with what the runtime knows of the pod on top (capability `dns`: servers, searches, options). */
function readDNS(conf: FieldReader, runtime: FieldReader | undefined): DNS {
  const configured = section(conf, "dns");
  const given = runtime && section(runtime, "dns", lowerCased);
  const list = (name: string, givenName: string): readonly string[] => {
    const fromRuntime = given?.strings(givenName) ?? [];
    return fromRuntime.length > 0 ? fromRuntime : (configured?.strings(name) ?? []);
  };
  const domain = configured?.optionalString("domain") || undefined;
  const lists = {
    nameservers: list("nameservers", "servers"),
    search: list("search", "searches"),
    options: list("options", "options"),
  };
  const { nameservers, search, options } = lists;
  return {
    ...(nameservers.length > 0 && { nameservers }),
    ...(domain !== undefined && { domain }),
    ...(search.length > 0 && { search }),
    ...(options.length > 0 && { options }),
  };
}

function parseRuntimeMAC(runtime: FieldReader | undefined): MAC | undefined {
  const text = runtime?.optionalString("mac");
  if (runtime === undefined || !text) return undefined;
  try {
    return parseMAC(text);
  } catch {
    throw runtime.fail("mac", text, "an Ethernet address such as 02:00:00:00:00:01");
  }
}

/** Runtimes write the addresses bare or with a length, which says nothing here: a pod's is /32 or /128. */
function parseRuntimeIPs(runtime: FieldReader | undefined): readonly IP[] | undefined {
  const texts = runtime?.strings("ips") ?? [];
  if (runtime === undefined || texts.length === 0) return undefined;
  const ips = texts.map((text, i) => {
    try {
      return text.includes("/") ? parseIPWithPrefix(text).ip : parseIP(text);
    } catch {
      throw runtime.fail(`ips[${i}]`, text, "an address such as 10.0.0.5 or 10.0.0.5/24");
    }
  });
  if (new Set(ips.map(familyOf)).size < ips.length)
    throw runtime.fail("ips", texts, "one address of each family at most");
  return ips;
}

function section(
  parent: FieldReader,
  field: string,
  keys: (raw: unknown) => unknown = (raw) => raw,
): FieldReader | undefined {
  const raw = parent.value(field);
  return raw === undefined ? undefined : parent.nested(field, keys(raw));
}

/** containerd writes runtimeConfig with Go's field names, so keys are matched without regard to case. */
function lowerCased(raw: unknown): unknown {
  if (!isObject(raw)) return raw;
  return Object.fromEntries(Object.entries(raw).map(([key, value]) => [key.toLowerCase(), value]));
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

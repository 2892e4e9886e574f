// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from "node:util";
import { type Family, type IP, parseIP } from "../net/ip.ts";
import { MTU_IFACE_PATTERN, type MTUSettings } from "./calc/mtu.ts";
import { ConfigError } from "./errors.ts";
import { VXLAN_DEFAULTS, type VXLANSettings } from "./managers/vxlan-manager.ts";
import type { FilterSettings } from "./nft/settings.ts";
import { type AddressSetting, type AddressSettings, parseAddress, parseMethod } from "./node-address/settings.ts";

export type LogLevel = "debug" | "info" | "warn" | "error" | "fatal";

/** Everything that the agent is told from outside. */
export interface AgentConfig {
  readonly nodeName: string;
  /** Absent: the service account of the pod that the agent runs in. */
  readonly kubeconfig?: string;
  readonly socketPath: string;
  readonly stateDir: string;
  readonly healthHost: string;
  readonly healthPort: number;
  readonly metricsHost: string;
  readonly metricsPort: number;
  readonly logLevel: LogLevel;
  /** 0: what fits between the nodes. */
  readonly podInterfaceMTUBytes: number;
  readonly vxlan: VXLANSettings;
  readonly mtu: MTUSettings;
  readonly routeRefreshMs: number;
  /** Whether the nodes' `spec.podCIDRs` are routed beside the blocks. */
  readonly routesPodCIDRs: boolean;
  /** Print what would be changed on this node, change nothing, and end. */
  readonly isPlan: boolean;
  /** Where this node's own addresses come from. */
  readonly nodeAddress: AddressSettings;
  /** Between two looks for them. */
  readonly addressPollMs: number;
  /** Whether the agent goes on although another node has its address. */
  readonly ignoresDuplicates: boolean;
  /** Absent: the table in nftables is left alone. */
  readonly packetFilter?: FilterSettings;
  readonly nftRefreshMs: number;
  /** Whether leaked addresses of this node are freed, or only named in the log. */
  readonly collect: "on" | "dry-run" | "off";
  /** How long a released address is not given again while there are others; 0: it is. */
  readonly ipCooldownMs: number;
  /** Of each of the journal's four files; 0: no journal. */
  readonly journalFileBytes: number;
  /** Whether /history answers others than this machine. */
  readonly hasRemoteHistory: boolean;
}

interface Option {
  readonly env: string;
  readonly help: string;
  readonly fallback?: string;
}

/** Flags, each with its environment variable; Calico's names where Calico has the option. A flag wins. */
const OPTIONS = {
  "node-name": { env: "NODENAME", help: "name of this machine's Node object (default: the host name)" },
  kubeconfig: { env: "KUBECONFIG", help: "file that says where the API server is (default: in-cluster)" },
  socket: { env: "GINGHAM_SOCKET", help: "where the launcher finds the agent", fallback: "/run/gingham/agent.sock" },
  "state-dir": { env: "GINGHAM_STATE_DIR", help: "attachment records", fallback: "/var/lib/gingham" },
  "health-host": { env: "FELIX_HEALTHHOST", help: "address of /liveness and /readiness", fallback: "127.0.0.1" },
  "health-port": { env: "FELIX_HEALTHPORT", help: "its port; 0 takes any", fallback: "9099" },
  "metrics-host": { env: "FELIX_PROMETHEUSMETRICSHOST", help: "address of /metrics", fallback: "0.0.0.0" },
  "metrics-port": { env: "FELIX_PROMETHEUSMETRICSPORT", help: "its port; 0 takes any", fallback: "9091" },
  "remote-history": {
    env: "GINGHAM_REMOTE_HISTORY",
    help: "answer /history on the metrics port beyond this machine (it names pods): on or off",
    fallback: "off",
  },
  "journal-size": { env: "GINGHAM_JOURNAL_SIZE", help: "MiB of each journal file; 0: no journal", fallback: "2" },
  "log-level": { env: "FELIX_LOGSEVERITYSCREEN", help: "Debug, Info, Warning, Error or Fatal", fallback: "Info" },
  "pod-interface-mtu": {
    env: "GINGHAM_POD_INTERFACE_MTU",
    help: "MTU of pods; 0: what fits between nodes",
    fallback: "0",
  },
  "mtu-iface-pattern": {
    env: "FELIX_MTUIFACEPATTERN",
    help: "regular expression: names of the links between nodes, whose smallest MTU counts",
    fallback: MTU_IFACE_PATTERN,
  },
  "vxlan-mtu": { env: "FELIX_VXLANMTU", help: "MTU of vxlan.calico; 0: 50 less than between nodes", fallback: "0" },
  "vxlan-mtu-v6": {
    env: "FELIX_VXLANMTUV6",
    help: "MTU of vxlan-v6.calico; 0: 70 less than between nodes",
    fallback: "0",
  },
  "vxlan-port": {
    env: "FELIX_VXLANPORT",
    help: "UDP port of VXLAN, the same on all nodes",
    fallback: String(VXLAN_DEFAULTS.port),
  },
  "vxlan-vni": {
    env: "FELIX_VXLANVNI",
    help: "VXLAN network identifier, the same on all nodes",
    fallback: String(VXLAN_DEFAULTS.vni),
  },
  "route-source": {
    env: "FELIX_ROUTESOURCE",
    help: "what is routed: CalicoIPAM (blocks) or WorkloadIPs (the nodes' spec.podCIDRs, too)",
    fallback: "CalicoIPAM",
  },
  "route-refresh-interval": { env: "FELIX_ROUTEREFRESHINTERVAL", help: "seconds between resyncs", fallback: "90" },
  plan: {
    env: "GINGHAM_PLAN",
    help: "print what this agent would change on the node, change nothing, and end: on or off",
    fallback: "off",
  },
  ip: { env: "IP", help: "this node's IPv4 address: ADDRESS[/LENGTH], autodetect, or none (default: its InternalIP)" },
  ip6: { env: "IP6", help: "the same for IPv6" },
  "ip-autodetection-method": {
    env: "IP_AUTODETECTION_METHOD",
    help: "first-found, can-reach=HOST, interface=REGEX, skip-interface=REGEX, cidr=CIDR, kubernetes-internal-ip",
  },
  "ip6-autodetection-method": { env: "IP6_AUTODETECTION_METHOD", help: "the same for IPv6" },
  "autodetect-poll-interval": {
    env: "AUTODETECT_POLL_INTERVAL",
    help: "between two looks for them, as 60s or 2m; changes of links and addresses are noticed at once",
    fallback: "60s",
  },
  "disable-node-ip-check": {
    env: "DISABLE_NODE_IP_CHECK",
    help: "be content with an address that another node has, too: true or false",
    fallback: "false",
  },
  "packet-filter": {
    env: "GINGHAM_PACKET_FILTER",
    help: "keep the table inet gingham in nftables (spoofed sources, NAT): on or off",
    fallback: "on",
  },
  "nft-refresh-interval": {
    env: "FELIX_NFTABLESREFRESHINTERVAL",
    help: "seconds between looks at that table",
    fallback: "60",
  },
  "nat-outgoing": {
    env: "GINGHAM_NAT_OUTGOING",
    help: "masquerade for pools with natOutgoing: on or off",
    fallback: "on",
  },
  "nat-port-range": { env: "FELIX_NATPORTRANGE", help: "source ports of masqueraded TCP and UDP, as 32768:65535" },
  "nat-outgoing-address": { env: "FELIX_NATOUTGOINGADDRESS", help: "source address instead of the outgoing link's" },
  "nat-outgoing-exclusions": {
    env: "FELIX_NATOUTGOINGEXCLUSIONS",
    help: "not masqueraded: IPPoolsOnly, or IPPoolsAndHostIPs",
    fallback: "IPPoolsOnly",
  },
  "nat-random-fully": {
    env: "GINGHAM_NAT_RANDOM_FULLY",
    help: "random source ports when masquerading, where the kernel can: on or off",
    fallback: "on",
  },
  "ip-cooldown": { env: "GINGHAM_IP_COOLDOWN", help: "seconds before an address is given again", fallback: "30" },
  collect: { env: "GINGHAM_COLLECT", help: "free leaked addresses: on, dry-run (log only) or off", fallback: "on" },
} as const satisfies Record<string, Option>;

type OptionName = keyof typeof OPTIONS;

const ROUTE_SOURCES = ["CalicoIPAM", "WorkloadIPs"] as const;
const COLLECT = ["on", "dry-run", "off"] as const;
const ON_OFF = ["on", "off"] as const;
const TRUE_FALSE = ["true", "false"] as const;
const EXCLUSIONS = ["IPPoolsOnly", "IPPoolsAndHostIPs"] as const;
const LOG_LEVELS: Readonly<Record<string, LogLevel>> = {
  debug: "debug",
  info: "info",
  warning: "warn",
  warn: "warn",
  error: "error",
  fatal: "fatal",
};

/** Kubernetes' names are DNS subdomains. Source: RFC 1123 section 2.1. */
const NODE_NAME = /^[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?$/;
const MIN_IPV4_MTU = 68;

/**
 * Reads flags and environment.
 *
 * @param hostName used, in lower case, when no node name is given
 * @throws ConfigError which names the option as it was given
 */
export function parseAgentConfig(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  hostName: string,
): AgentConfig {
  const flags = parseFlags(args);
  const read = (name: OptionName): { text: string; option: string } => {
    const flag = flags[name];
    if (flag !== undefined) return { text: flag, option: `--${name}` };
    const option: Option = OPTIONS[name];
    // An empty variable is one that a manifest left blank.
    return { text: env[option.env] || (option.fallback ?? ""), option: env[option.env] ? option.env : `--${name}` };
  };
  const integer = (name: OptionName, min: number, max: number): number => {
    const { text, option } = read(name);
    const value = Number(text);
    if (/^\d{1,9}$/.test(text) && value >= min && value <= max) return value;
    throw new ConfigError(option, `got ${JSON.stringify(text)}, want a whole number from ${min} to ${max}`);
  };
  const kubeconfig = read("kubeconfig").text;
  return {
    nodeName: nodeNameOf(read("node-name"), hostName),
    ...(kubeconfig === "" ? {} : { kubeconfig }),
    socketPath: absolutePath(read("socket")),
    stateDir: absolutePath(read("state-dir")),
    healthHost: read("health-host").text,
    healthPort: integer("health-port", 0, 65_535),
    metricsHost: read("metrics-host").text,
    metricsPort: integer("metrics-port", 0, 65_535),
    logLevel: logLevelOf(read("log-level")),
    podInterfaceMTUBytes: mtuOf(integer("pod-interface-mtu", 0, 65_535), read("pod-interface-mtu").option),
    vxlan: { vni: integer("vxlan-vni", 1, 0xffffff), port: integer("vxlan-port", 1, 65_535) },
    mtu: mtuSettings(read, integer),
    routeRefreshMs: integer("route-refresh-interval", 1, 86_400) * 1000,
    routesPodCIDRs: oneOf(ROUTE_SOURCES, read("route-source")) === "WorkloadIPs",
    isPlan: oneOf(ON_OFF, read("plan")) === "on",
    nodeAddress: {
      4: addressSetting(4, read("ip"), read("ip-autodetection-method")),
      6: addressSetting(6, read("ip6"), read("ip6-autodetection-method")),
    },
    addressPollMs: durationOf(read("autodetect-poll-interval")),
    ignoresDuplicates: oneOf(TRUE_FALSE, read("disable-node-ip-check")) === "true",
    ...(oneOf(ON_OFF, read("packet-filter")) === "on" && { packetFilter: filterSettings(read) }),
    nftRefreshMs: integer("nft-refresh-interval", 1, 86_400) * 1000,
    collect: oneOf(COLLECT, read("collect")),
    ipCooldownMs: integer("ip-cooldown", 0, 3_600) * 1000,
    journalFileBytes: integer("journal-size", 0, 1024) * 2 ** 20,
    hasRemoteHistory: oneOf(ON_OFF, read("remote-history")) === "on",
  };
}

function filterSettings(read: (name: OptionName) => { text: string; option: string }): FilterSettings {
  const [range, address] = [read("nat-port-range"), read("nat-outgoing-address")];
  return {
    natOutgoing: oneOf(ON_OFF, read("nat-outgoing")) === "on",
    ...(range.text !== "" && { natPortRange: portRangeOf(range) }),
    ...(address.text !== "" && { natOutgoingAddress: addressOf(address) }),
    natOutgoingExclusions: oneOf(EXCLUSIONS, read("nat-outgoing-exclusions")),
    randomFully: oneOf(ON_OFF, read("nat-random-fully")) === "on",
  };
}

interface Given {
  readonly text: string;
  readonly option: string;
}

function addressSetting(family: Family, address: Given, method: Given): AddressSetting {
  const parse = <T>({ text, option }: Given, fn: () => T): T => {
    try {
      return fn();
    } catch (cause) {
      const want = cause instanceof Error ? cause.message : String(cause);
      throw new ConfigError(option, `got ${JSON.stringify(text)}, ${want}`, cause);
    }
  };
  const parsed = parse(method, () => parseMethod(method.text, family));
  return parse(address, () => parseAddress(address.text, family, parsed));
}

/** As Go writes durations, of which Calico's manifests have whole seconds and minutes. */
function durationOf({ text, option }: Given): number {
  const [, count = "", unit = "s"] = /^(\d{1,5})([sm])?$/.exec(text) ?? [];
  const seconds = Number(count) * (unit === "m" ? 60 : 1);
  if (seconds >= 1 && seconds <= 86_400) return seconds * 1000;
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want seconds or minutes, as 60s or 2m`);
}

/** Text for --help. */
export function agentUsage(): string {
  const lines = Object.entries<Option>(OPTIONS).map(([name, { env, help, fallback }]) => {
    const value = fallback === undefined ? "" : ` (default: ${fallback})`;
    return `  ${`--${name}`.padEnd(26)}${env.padEnd(30)}${help}${value}`;
  });
  return `Usage: gingham-agent [options]\n\n  ${"flag".padEnd(26)}${"variable".padEnd(30)}meaning\n${lines.join("\n")}\n`;
}

function parseFlags(args: readonly string[]): Partial<Record<OptionName, string>> {
  const options = Object.fromEntries(Object.keys(OPTIONS).map((name) => [name, { type: "string" as const }]));
  try {
    // The one flag that people type by hand, and expect to need no value.
    const words = args.map((arg, i) => (arg === "--plan" && !isOnOff(args[i + 1]) ? "--plan=on" : arg));
    return parseArgs({ args: words, options, strict: true, allowPositionals: false }).values;
  } catch (cause) {
    const named = args.find((arg) => !(arg.replace(/^--/, "").replace(/=.*/s, "") in OPTIONS)) ?? args.at(-1) ?? "";
    const known = Object.keys(OPTIONS).map((name) => `--${name}`);
    throw new ConfigError(named, `not understood; the options are ${known.join(", ")}, each with a value`, cause);
  }
}

function isOnOff(text: string | undefined): boolean {
  return ON_OFF.some((word) => word === text);
}

function nodeNameOf({ text, option }: { text: string; option: string }, hostName: string): string {
  const name = text || hostName.toLowerCase();
  if (NODE_NAME.test(name)) return name;
  const from = text === "" ? " (the host name)" : "";
  throw new ConfigError(option, `${JSON.stringify(name)}${from} is no name of a Node object; set it to one`);
}

function absolutePath({ text, option }: { text: string; option: string }): string {
  if (text.startsWith("/")) return text;
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want an absolute path`);
}

function logLevelOf({ text, option }: { text: string; option: string }): LogLevel {
  const level = LOG_LEVELS[text.toLowerCase()];
  if (level !== undefined) return level;
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want Debug, Info, Warning, Error or Fatal`);
}

function oneOf<T extends string>(values: readonly T[], { text, option }: { text: string; option: string }): T {
  const found = values.find((value) => value.toLowerCase() === text.toLowerCase());
  if (found !== undefined) return found;
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want ${values.join(", ")}`);
}

function portRangeOf({ text, option }: { text: string; option: string }): { min: number; max: number } {
  const [min = 0, max = min, ...rest] = text.split(":").map((port) => (/^\d{1,5}$/.test(port) ? Number(port) : 0));
  if (min >= 1 && max >= min && max <= 65_535 && rest.length === 0) return { min, max };
  throw new ConfigError(option, `got ${JSON.stringify(text)}, want two ports from 1 to 65535, as 32768:65535`);
}

function addressOf({ text, option }: { text: string; option: string }): IP {
  try {
    return parseIP(text);
  } catch (cause) {
    throw new ConfigError(option, `got ${JSON.stringify(text)}, want an address`, cause);
  }
}

function mtuSettings(
  read: (name: OptionName) => { text: string; option: string },
  integer: (name: OptionName, min: number, max: number) => number,
): MTUSettings {
  const [four, six] = (["vxlan-mtu", "vxlan-mtu-v6"] as const).map((name) =>
    mtuOf(integer(name, 0, 65_535), read(name).option),
  );
  return {
    mtuIfacePattern: patternOf(read("mtu-iface-pattern")),
    ...(four ? { vxlanMTU: four } : {}),
    ...(six ? { vxlanMTUV6: six } : {}),
  };
}

function patternOf({ text, option }: { text: string; option: string }): RegExp {
  try {
    return new RegExp(text);
  } catch (cause) {
    throw new ConfigError(option, `got ${JSON.stringify(text)}, want a regular expression`, cause);
  }
}

function mtuOf(bytes: number, option: string): number {
  if (bytes === 0 || bytes >= MIN_IPV4_MTU) return bytes;
  throw new ConfigError(option, `got ${bytes}, want 0 or at least ${MIN_IPV4_MTU} bytes`);
}

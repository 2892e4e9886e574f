// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from "node:util";
import {
  FELIX_CONFIGURATION_NAME,
  type FelixConfiguration,
  nodeFelixConfigurationName,
} from "../crds/felix-configuration.ts";
import type { Finding } from "./calc/findings.ts";
import { MTU_IFACE_PATTERN, type MTUSettings } from "./calc/mtu.ts";
import { unsupportedFields } from "./config-fields.ts";
import { ConfigReader, type ConfigSource, felixConfigurationSource } from "./config-resolve.ts";
import {
  absolutePath,
  addressOf,
  type Given,
  integerOf,
  intervalOf,
  isOn,
  type LogLevel,
  logLevelOf,
  methodOf,
  mtuOf,
  nodeAddressOf,
  nodeNameOf,
  oneOf,
  patternOf,
  portOf,
  portRangeOf,
  textOf,
} from "./config-values.ts";
import { ConfigError } from "./errors.ts";
import { VXLAN_DEFAULTS, type VXLANSettings } from "./managers/vxlan-manager.ts";
import type { FilterSettings } from "./nft/settings.ts";
import type { AddressSetting, AddressSettings } from "./node-address/settings.ts";

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
  /** Of Calico's FelixConfiguration. */
  readonly field?: string;
  readonly help: string;
  readonly fallback?: string;
}

/** Flags, each with its environment variable and field; Calico's names where Calico has the option. */
const OPTIONS = {
  "node-name": { env: "NODENAME", help: "name of this machine's Node object (default: the host name)" },
  kubeconfig: { env: "KUBECONFIG", help: "file that says where the API server is (default: in-cluster)" },
  socket: { env: "GINGHAM_SOCKET", help: "where the launcher finds the agent", fallback: "/run/gingham/agent.sock" },
  "state-dir": { env: "GINGHAM_STATE_DIR", help: "attachment records", fallback: "/var/lib/gingham" },
  "health-host": {
    env: "FELIX_HEALTHHOST",
    field: "healthHost",
    help: "address of /liveness and /readiness",
    fallback: "127.0.0.1",
  },
  "health-port": { env: "FELIX_HEALTHPORT", field: "healthPort", help: "its port; 0 takes any", fallback: "9099" },
  "metrics-host": {
    env: "FELIX_PROMETHEUSMETRICSHOST",
    field: "prometheusMetricsHost",
    help: "address of /metrics",
    fallback: "0.0.0.0",
  },
  "metrics-port": {
    env: "FELIX_PROMETHEUSMETRICSPORT",
    field: "prometheusMetricsPort",
    help: "its port; 0 takes any",
    fallback: "9091",
  },
  "remote-history": {
    env: "GINGHAM_REMOTE_HISTORY",
    help: "answer /history on the metrics port beyond this machine (it names pods): on or off",
    fallback: "off",
  },
  "journal-size": { env: "GINGHAM_JOURNAL_SIZE", help: "MiB of each journal file; 0: no journal", fallback: "2" },
  "log-level": {
    env: "FELIX_LOGSEVERITYSCREEN",
    field: "logSeverityScreen",
    help: "Debug, Info, Warning, Error or Fatal",
    fallback: "Info",
  },
  "pod-interface-mtu": {
    env: "GINGHAM_POD_INTERFACE_MTU",
    help: "MTU of pods; 0: what fits between nodes",
    fallback: "0",
  },
  "mtu-iface-pattern": {
    env: "FELIX_MTUIFACEPATTERN",
    field: "mtuIfacePattern",
    help: "regular expression: names of the links between nodes, whose smallest MTU counts",
    fallback: MTU_IFACE_PATTERN,
  },
  "vxlan-mtu": {
    env: "FELIX_VXLANMTU",
    field: "vxlanMTU",
    help: "MTU of vxlan.calico; 0: 50 less than between nodes",
    fallback: "0",
  },
  "vxlan-mtu-v6": {
    env: "FELIX_VXLANMTUV6",
    field: "vxlanMTUV6",
    help: "MTU of vxlan-v6.calico; 0: 70 less than between nodes",
    fallback: "0",
  },
  "vxlan-port": {
    env: "FELIX_VXLANPORT",
    field: "vxlanPort",
    help: "UDP port of VXLAN, the same on all nodes",
    fallback: String(VXLAN_DEFAULTS.port),
  },
  "vxlan-vni": {
    env: "FELIX_VXLANVNI",
    field: "vxlanVNI",
    help: "VXLAN network identifier, the same on all nodes",
    fallback: String(VXLAN_DEFAULTS.vni),
  },
  "route-source": {
    env: "FELIX_ROUTESOURCE",
    field: "routeSource",
    help: "what is routed: CalicoIPAM (blocks) or WorkloadIPs (the nodes' spec.podCIDRs, too)",
    fallback: "CalicoIPAM",
  },
  "route-refresh-interval": {
    env: "FELIX_ROUTEREFRESHINTERVAL",
    field: "routeRefreshInterval",
    help: "between two looks at all routes",
    fallback: "90s",
  },
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
    field: "nftablesRefreshInterval",
    help: "between two looks at that table",
    fallback: "60s",
  },
  "nat-outgoing": {
    env: "GINGHAM_NAT_OUTGOING",
    help: "masquerade for pools with natOutgoing: on or off",
    fallback: "on",
  },
  "nat-port-range": {
    env: "FELIX_NATPORTRANGE",
    field: "natPortRange",
    help: "source ports of masqueraded TCP and UDP, as 32768:65535",
  },
  "nat-outgoing-address": {
    env: "FELIX_NATOUTGOINGADDRESS",
    field: "natOutgoingAddress",
    help: "source address instead of the outgoing link's",
  },
  "nat-outgoing-exclusions": {
    env: "FELIX_NATOUTGOINGEXCLUSIONS",
    field: "natOutgoingExclusions",
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
/** What a program's own command line and environment say. */
export interface LocalConfig {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Used, in lower case, when no node name is given. */
  readonly hostName: string;
}

export interface ResolvedConfig {
  readonly config: AgentConfig;
  /** Values that are ignored, and fields that ask for what the agent does not do. */
  readonly findings: readonly Finding[];
  /** What was said of options, by flag, with the name of who said it; others have their defaults. */
  readonly inForce: ReadonlyMap<string, Given>;
}

/**
 * Settings out of, the first wins: flags, environment, FelixConfiguration `node.<name>`, FelixConfiguration `default`.
 *
 * A flag that is wrong, and a variable that Calico's resource has no field for, is an error to whoever starts the agent. Any
 * other wrong value is ignored and told, as in Calico: it comes from far away, and must not take a node down.
 *
 * @param objects FelixConfigurations; those of other nodes do not matter
 * @throws ConfigError which names the option as it was given
 */
export function resolveConfig(local: LocalConfig, objects: Iterable<FelixConfiguration> = []): ResolvedConfig {
  const strict = localSources(local);
  const nodeName = new ConfigReader<OptionName>(strict, fallbackOf).read("node-name", (given) =>
    nodeNameOf(given, local.hostName),
  );
  const all = [...objects];
  const names = [nodeFelixConfigurationName(nodeName), FELIX_CONFIGURATION_NAME];
  const relevant = names.flatMap((name) => all.find(({ metadata }) => metadata.name === name) ?? []);
  const sources = [...strict, ...relevant.map((object) => felixConfigurationSource(object, fieldOf))];
  const reader = new ConfigReader<OptionName>(sources, fallbackOf);
  const config = readConfig(reader, nodeName);
  const findings = [...reader.findings, ...unsupportedFields(relevant, all)];
  return { config, findings, inForce: reader.inForce };
}

function readConfig(reader: ConfigReader<OptionName>, nodeName: string): AgentConfig {
  const read = <T>(name: OptionName, parse: (given: Given) => T): T => reader.read(name, parse);
  const kubeconfig = read("kubeconfig", textOf);
  const packetFilter = read("packet-filter", isOn);
  const filterSettings = readFilterSettings(read);
  return {
    nodeName,
    ...(kubeconfig === "" ? {} : { kubeconfig }),
    socketPath: read("socket", absolutePath),
    stateDir: read("state-dir", absolutePath),
    healthHost: read("health-host", textOf),
    healthPort: read("health-port", portOf),
    metricsHost: read("metrics-host", textOf),
    metricsPort: read("metrics-port", portOf),
    logLevel: read("log-level", logLevelOf),
    podInterfaceMTUBytes: read("pod-interface-mtu", mtuOf),
    vxlan: {
      vni: read("vxlan-vni", (given) => integerOf(given, 1, 0xffffff)),
      port: read("vxlan-port", (given) => integerOf(given, 1, 65_535)),
    },
    mtu: readMTUSettings(read),
    routeRefreshMs: read("route-refresh-interval", intervalOf),
    routesPodCIDRs: read("route-source", (given) => oneOf(ROUTE_SOURCES, given)) === "WorkloadIPs",
    isPlan: read("plan", isOn),
    nodeAddress: {
      4: readAddress(read, 4, "ip", "ip-autodetection-method"),
      6: readAddress(read, 6, "ip6", "ip6-autodetection-method"),
    },
    addressPollMs: read("autodetect-poll-interval", intervalOf),
    ignoresDuplicates: read("disable-node-ip-check", (given) => oneOf(TRUE_FALSE, given)) === "true",
    ...(packetFilter && { packetFilter: filterSettings }),
    nftRefreshMs: read("nft-refresh-interval", intervalOf),
    collect: read("collect", (given) => oneOf(COLLECT, given)),
    ipCooldownMs: read("ip-cooldown", (given) => integerOf(given, 0, 3_600)) * 1000,
    journalFileBytes: read("journal-size", (given) => integerOf(given, 0, 1024)) * 2 ** 20,
    hasRemoteHistory: read("remote-history", isOn),
  };
}

type Read = <T>(name: OptionName, parse: (given: Given) => T) => T;

function readFilterSettings(read: Read): FilterSettings {
  const natPortRange = read("nat-port-range", portRangeOf);
  const natOutgoingAddress = read("nat-outgoing-address", addressOf);
  return {
    natOutgoing: read("nat-outgoing", isOn),
    ...(natPortRange !== undefined && { natPortRange }),
    ...(natOutgoingAddress !== undefined && { natOutgoingAddress }),
    natOutgoingExclusions: read("nat-outgoing-exclusions", (given) => oneOf(EXCLUSIONS, given)),
    randomFully: read("nat-random-fully", isOn),
  };
}

function readMTUSettings(read: Read): MTUSettings {
  const [vxlanMTU, vxlanMTUV6] = [read("vxlan-mtu", mtuOf), read("vxlan-mtu-v6", mtuOf)];
  return {
    mtuIfacePattern: read("mtu-iface-pattern", patternOf),
    ...(vxlanMTU > 0 && { vxlanMTU }),
    ...(vxlanMTUV6 > 0 && { vxlanMTUV6 }),
  };
}

function readAddress(read: Read, family: 4 | 6, address: OptionName, method: OptionName): AddressSetting {
  const parsed = read(method, (given) => methodOf(given, family));
  return read(address, (given) => nodeAddressOf(given, family, parsed));
}

/** Flags, then variables. */
function localSources({ args, env }: LocalConfig): readonly ConfigSource[] {
  const flags = parseFlags(args);
  const optionOf = (name: string): Option => OPTIONS[name as OptionName]; // The reader asks for nothing else.
  return [
    {
      get: (name) => {
        const text = flags[name as OptionName];
        return text === undefined ? undefined : { text, option: `--${name}` };
      },
      isStrict: () => true,
    },
    {
      get: (name) => {
        const { env: option } = optionOf(name);
        const text = env[option];
        // An empty variable is one that a manifest left blank.
        return text ? { text, option } : undefined;
      },
      isStrict: (name) => optionOf(name).field === undefined,
    },
  ];
}

function fallbackOf(name: OptionName): string {
  const option: Option = OPTIONS[name];
  return option.fallback ?? "";
}

function fieldOf(name: string): string | undefined {
  const option: Option = OPTIONS[name as OptionName];
  return option.field;
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

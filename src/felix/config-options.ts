// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from "node:util";
import type { ConfigSource } from "./config-resolve.ts";
import { ConfigError } from "./errors.ts";

interface Option {
  readonly env: string;
  /** Of Calico's FelixConfiguration. */
  readonly field?: string;
  readonly help: string;
  readonly fallback?: string;
  /** The field is a list of texts; flag and variable have commas between them. */
  readonly isList?: true;
}

/**
 * Flags, each with its environment variable and field; Calico's names where Calico has the option. All literals, for the
 * sake of the type of the names; config.test.ts compares the defaults with the constants that other parts use.
 */
const OPTIONS = {
  "node-name": { env: "NODENAME", help: "name of this machine's Node object (default: the host name)" },
  kubeconfig: { env: "KUBECONFIG", help: "file that says where the API server is (default: in-cluster)" },
  "register-node": {
    env: "GINGHAM_REGISTER_NODE",
    help: "make this machine's Node object when there is none, where no kubelet does: on or off",
    fallback: "off",
  },
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
    fallback: "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)",
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
  "ipip-mtu": {
    env: "FELIX_IPINIPMTU",
    field: "ipipMTU",
    help: "MTU of tunl0; 0: 20 less than between nodes",
    fallback: "0",
  },
  "ipip-enabled": {
    env: "FELIX_IPINIPENABLED",
    field: "ipipEnabled",
    help: "IP-in-IP whatever the pools say: true or false (default: as the pools say)",
  },
  "vxlan-enabled": {
    env: "FELIX_VXLANENABLED",
    field: "vxlanEnabled",
    help: "the same for VXLAN of IPv4",
  },
  "vxlan-port": {
    env: "FELIX_VXLANPORT",
    field: "vxlanPort",
    help: "UDP port of VXLAN, the same on all nodes",
    fallback: "4789",
  },
  "vxlan-vni": {
    env: "FELIX_VXLANVNI",
    field: "vxlanVNI",
    help: "VXLAN network identifier, the same on all nodes",
    fallback: "4096",
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
  "cni-conf-dir": {
    env: "GINGHAM_CNI_CONF_DIR",
    help: "the runtime's folder of network configurations, where the agent keeps its own; empty: it writes none",
  },
  "cni-bin-dir": { env: "GINGHAM_CNI_BIN_DIR", help: "the runtime's folder of plugins", fallback: "/opt/cni/bin" },
  "cni-conf-name": {
    env: "GINGHAM_CNI_CONF_NAME",
    help: "name of that configuration; a lower number is taken where another file would come first",
    fallback: "10-gingham.conflist",
  },
  "cni-conflist": {
    env: "GINGHAM_CNI_CONFLIST",
    help: "file with its content, without cniVersion (default: gingham, portmap, bandwidth)",
  },
  "cni-others": {
    env: "GINGHAM_CNI_OTHERS",
    help: "configurations of other networks: keep, or rename to NAME.gingham-bak",
    fallback: "keep",
  },
  "host-mounts": {
    env: "GINGHAM_HOST_MOUNTS",
    help: "execute other plugins among the mounts of process 1, for an agent in a container: on or off",
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
  "nat-outgoing-interface": {
    env: "FELIX_IPTABLESNATOUTGOINGINTERFACEFILTER",
    field: "iptablesNATOutgoingInterfaceFilter",
    help: "masquerade only what leaves by this link, as eth0 or eth+ (default: by any)",
  },
  "external-nodes": {
    env: "FELIX_EXTERNALNODESCIDRLIST",
    field: "externalNodesList",
    help: "addresses and networks of machines beside the nodes that may send encapsulated packets, with commas between",
    isList: true,
  },
  "allow-vxlan-from-pods": {
    env: "FELIX_ALLOWVXLANPACKETSFROMWORKLOADS",
    field: "allowVXLANPacketsFromWorkloads",
    help: "let pods send VXLAN packets themselves: true or false",
    fallback: "false",
  },
  "allow-ipip-from-pods": {
    env: "FELIX_ALLOWIPIPPACKETSFROMWORKLOADS",
    field: "allowIPIPPacketsFromWorkloads",
    help: "the same for IP-in-IP",
    fallback: "false",
  },
  "nat-random-fully": {
    env: "GINGHAM_NAT_RANDOM_FULLY",
    help: "random source ports when masquerading, where the kernel can: on or off",
    fallback: "on",
  },
  "path-mtu-probe": {
    env: "GINGHAM_PATH_MTU_PROBE",
    help: "send large packets to the other nodes every ten minutes, and tell of paths that lose them: on or off",
    fallback: "off",
  },
  "self-test": {
    env: "GINGHAM_SELF_TEST",
    help: "at the start, send a packet between two pods of the agent's own; it is not ready before: on or off",
    fallback: "on",
  },
  "startup-taint": {
    env: "GINGHAM_STARTUP_TAINT",
    help: "key of the taint that is taken off the node once the agent is ready; none: taints are left alone",
    fallback: "gingham.dev/agent-not-ready",
  },
  "ip-cooldown": { env: "GINGHAM_IP_COOLDOWN", help: "seconds before an address is given again", fallback: "30" },
  adopt: {
    env: "GINGHAM_ADOPT",
    help: "take over running pods that Calico's plugin made on this node: on or off",
    fallback: "on",
  },
  collect: { env: "GINGHAM_COLLECT", help: "free leaked addresses: on, dry-run (log only) or off", fallback: "on" },
} as const;

export type OptionName = keyof typeof OPTIONS;

const ON_OFF = ["on", "off"] as const;

/** What a program's own command line and environment say. */
export interface LocalConfig {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Used, in lower case, when no node name is given. */
  readonly hostName: string;
}

/** Flags, then variables. */
export function localSources({ args, env }: LocalConfig): readonly ConfigSource[] {
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

export function fallbackOf(name: OptionName): string {
  const option: Option = OPTIONS[name];
  return option.fallback ?? "";
}

export function fieldOf(name: string): string | undefined {
  const option: Option = OPTIONS[name as OptionName];
  return option.field;
}

export function isListOption(name: string): boolean {
  const option: Option = OPTIONS[name as OptionName];
  return option.isList === true;
}

/** Text for --help. */
export function agentUsage(): string {
  const rows = Object.entries<Option>(OPTIONS).map(([name, { env, help, fallback }]) => {
    return [`--${name}`, env, fallback === undefined ? help : `${help} (default: ${fallback})`] as const;
  });
  const flagWidth = Math.max(...rows.map(([flag]) => flag.length)) + 2;
  const envWidth = Math.max(...rows.map(([, env]) => env.length)) + 2;
  const lines = [["flag", "variable", "meaning"] as const, ...rows].map(([flag, env, meaning]) => {
    return `  ${flag.padEnd(flagWidth)}${env.padEnd(envWidth)}${meaning}\n`;
  });
  return `Usage: gingham-agent [options]\n\n${lines.join("")}`;
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

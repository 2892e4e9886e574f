// SPDX-License-Identifier: Apache-2.0
import {
  FELIX_CONFIGURATION_NAME,
  type FelixConfiguration,
  nodeFelixConfigurationName,
} from "../crds/felix-configuration.ts";
import type { Others } from "../install/conf-dir-plan.ts";
import type { EncapsulationOverrides } from "./calc/encapsulations.ts";
import type { Finding } from "./calc/findings.ts";
import type { MTUSettings } from "./calc/mtu.ts";
import { unsupportedFields } from "./config-fields.ts";
import {
  fallbackOf,
  fieldOf,
  isListOption,
  type LocalConfig,
  localSources,
  type OptionName,
} from "./config-options.ts";
import { ConfigReader, felixConfigurationSource } from "./config-resolve.ts";
import {
  absolutePath,
  addressOf,
  confNameOf,
  type Given,
  ifacePatternOf,
  integerOf,
  intervalOf,
  isOn,
  isTrueOf,
  type LogLevel,
  logLevelOf,
  methodOf,
  mtuOf,
  networksOf,
  nodeAddressOf,
  nodeNameOf,
  oneOf,
  patternOf,
  portOf,
  portRangeOf,
  taintOf,
  textOf,
} from "./config-values.ts";
import type { VXLANSettings } from "./managers/vxlan-manager.ts";
import type { FilterSettings } from "./nft/settings.ts";
import type { AddressSetting, AddressSettings } from "./node-address/settings.ts";

/** Everything that the agent is told from outside. */
export interface AgentConfig {
  readonly nodeName: string;
  /** Absent: the service account of the pod that the agent runs in. */
  readonly kubeconfig?: string;
  /** Whether the agent makes its machine's Node. */
  readonly registersNode: boolean;
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
  /** Encapsulations that are on or off whatever the pools ask for. */
  readonly encapsulation: EncapsulationOverrides;
  readonly routeRefreshMs: number;
  /** Whether the nodes' `spec.podCIDRs` are routed beside the blocks. */
  readonly routesPodCIDRs: boolean;
  /** Print what would be changed on this node, change nothing, and end. */
  readonly isPlan: boolean;
  /** Absent: somebody else writes the runtime's network configuration. */
  readonly cni?: NetworkConfigSettings;
  /** Whether other plugins are executed among the mounts of process 1. */
  readonly usesHostMounts: boolean;
  /** Where this node's own addresses come from. */
  readonly nodeAddress: AddressSettings;
  /** Between two looks for them. */
  readonly addressPollMs: number;
  /** Whether the agent goes on although another node has its address. */
  readonly ignoresDuplicates: boolean;
  /** Absent: the table in nftables is left alone. */
  readonly packetFilter?: FilterSettings;
  readonly nftRefreshMs: number;
  /** Whether large packets are sent to the other nodes, to see that they get through. */
  readonly probesPaths: boolean;
  /** Whether the agent is ready only after a packet went from pod to pod. */
  readonly hasSelfTest: boolean;
  /** Key of the taint that is taken off the node once the agent is ready; empty: none. */
  readonly startupTaint: string;
  /** Whether leaked addresses of this node are freed, or only named in the log. */
  readonly collect: "on" | "dry-run" | "off";
  /** Whether running pods of Calico's plugin are taken over. */
  readonly adopts: boolean;
  /** How long a released address is not given again while there are others; 0: it is. */
  readonly ipCooldownMs: number;
  /** Of each of the journal's four files; 0: no journal. */
  readonly journalFileBytes: number;
  /** Whether /history answers others than this machine. */
  readonly hasRemoteHistory: boolean;
}

/** What the agent keeps in the runtime's folder of network configurations. */
export interface NetworkConfigSettings {
  readonly confDir: string;
  readonly binDir: string;
  readonly name: string;
  /** File with its content; absent: the default. */
  readonly conflist?: string;
  readonly others: Others;
}

const ROUTE_SOURCES = ["CalicoIPAM", "WorkloadIPs"] as const;
const COLLECT = ["on", "dry-run", "off"] as const;
const TRUE_FALSE = ["true", "false"] as const;
const OTHERS = ["keep", "rename"] as const;
const EXCLUSIONS = ["IPPoolsOnly", "IPPoolsAndHostIPs"] as const;
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
  const sources = [...strict, ...relevant.map((object) => felixConfigurationSource(object, fieldOf, isListOption))];
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
    registersNode: read("register-node", isOn),
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
    encapsulation: readOverrides(read),
    routeRefreshMs: read("route-refresh-interval", intervalOf),
    routesPodCIDRs: read("route-source", (given) => oneOf(ROUTE_SOURCES, given)) === "WorkloadIPs",
    isPlan: read("plan", isOn),
    ...(read("cni-conf-dir", textOf) !== "" && { cni: readNetworkConfig(read) }),
    usesHostMounts: read("host-mounts", isOn),
    nodeAddress: {
      4: readAddress(read, 4, "ip", "ip-autodetection-method"),
      6: readAddress(read, 6, "ip6", "ip6-autodetection-method"),
    },
    addressPollMs: read("autodetect-poll-interval", intervalOf),
    ignoresDuplicates: read("disable-node-ip-check", (given) => oneOf(TRUE_FALSE, given)) === "true",
    ...(packetFilter && { packetFilter: filterSettings }),
    nftRefreshMs: read("nft-refresh-interval", intervalOf),
    probesPaths: read("path-mtu-probe", isOn),
    hasSelfTest: read("self-test", isOn),
    startupTaint: read("startup-taint", taintOf),
    collect: read("collect", (given) => oneOf(COLLECT, given)),
    adopts: read("adopt", isOn),
    ipCooldownMs: read("ip-cooldown", (given) => integerOf(given, 0, 3_600)) * 1000,
    journalFileBytes: read("journal-size", (given) => integerOf(given, 0, 1024)) * 2 ** 20,
    hasRemoteHistory: read("remote-history", isOn),
  };
}

type Read = <T>(name: OptionName, parse: (given: Given) => T) => T;

function readFilterSettings(read: Read): FilterSettings {
  const natPortRange = read("nat-port-range", portRangeOf);
  const natOutgoingAddress = read("nat-outgoing-address", addressOf);
  const natOutgoingInterface = read("nat-outgoing-interface", ifacePatternOf);
  const externalNodes = read("external-nodes", networksOf);
  const isTrue = (given: Given): boolean => oneOf(TRUE_FALSE, given) === "true";
  const [allowsVXLAN, allowsIPIP] = [read("allow-vxlan-from-pods", isTrue), read("allow-ipip-from-pods", isTrue)];
  const tunnelsFromPods = [...(allowsVXLAN ? (["VXLAN"] as const) : []), ...(allowsIPIP ? (["IPIP"] as const) : [])];
  return {
    natOutgoing: read("nat-outgoing", isOn),
    ...(natPortRange !== undefined && { natPortRange }),
    ...(natOutgoingAddress !== undefined && { natOutgoingAddress }),
    natOutgoingExclusions: read("nat-outgoing-exclusions", (given) => oneOf(EXCLUSIONS, given)),
    randomFully: read("nat-random-fully", isOn),
    ...(natOutgoingInterface !== undefined && { natOutgoingInterface }),
    ...(externalNodes.length > 0 && { externalNodes }),
    ...(tunnelsFromPods.length > 0 && { tunnelsFromPods }),
  };
}

function readNetworkConfig(read: Read): NetworkConfigSettings {
  const conflist = read("cni-conflist", (given) => given.text && absolutePath(given));
  return {
    confDir: read("cni-conf-dir", absolutePath),
    binDir: read("cni-bin-dir", absolutePath),
    name: read("cni-conf-name", confNameOf),
    ...(conflist !== "" && { conflist }),
    others: read("cni-others", (given) => oneOf(OTHERS, given)),
  };
}

function readOverrides(read: Read): EncapsulationOverrides {
  const [vxlan, ipip] = [read("vxlan-enabled", isTrueOf), read("ipip-enabled", isTrueOf)];
  return { ...(vxlan !== undefined && { vxlan }), ...(ipip !== undefined && { ipip }) };
}

function readMTUSettings(read: Read): MTUSettings {
  const [vxlanMTU, vxlanMTUV6] = [read("vxlan-mtu", mtuOf), read("vxlan-mtu-v6", mtuOf)];
  const ipipMTU = read("ipip-mtu", mtuOf);
  return {
    mtuIfacePattern: read("mtu-iface-pattern", patternOf),
    ...(vxlanMTU > 0 && { vxlanMTU }),
    ...(vxlanMTUV6 > 0 && { vxlanMTUV6 }),
    ...(ipipMTU > 0 && { ipipMTU }),
  };
}

function readAddress(read: Read, family: 4 | 6, address: OptionName, method: OptionName): AddressSetting {
  const parsed = read(method, (given) => methodOf(given, family));
  return read(address, (given) => nodeAddressOf(given, family, parsed));
}

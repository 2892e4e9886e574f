// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { FELIX_CONFIGURATION_KIND, type FelixConfiguration } from "../crds/felix-configuration.ts";
import { parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import { MTU_IFACE_PATTERN } from "./calc/mtu.ts";
import { type AgentConfig, resolveConfig } from "./config.ts";
import { agentUsage } from "./config-options.ts";
import { ConfigError } from "./errors.ts";
import { VXLAN_DEFAULTS } from "./managers/vxlan-manager.ts";

function parseAgentConfig(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  hostName: string,
): AgentConfig {
  return resolveConfig({ args, env, hostName }).config;
}

function configuration(name: string, spec: FelixConfiguration["spec"]): FelixConfiguration {
  return { apiVersion: "crd.projectcalico.org/v1", kind: "FelixConfiguration", metadata: { name }, spec };
}

const LOCAL = { args: [], env: {}, hostName: "node-a" };

describe("resolveConfig() of flags and variables", () => {
  test("has defaults for everything", () => {
    expect(parseAgentConfig([], {}, "Worker-1")).toEqual({
      nodeName: "worker-1",
      registersNode: false,
      socketPath: "/run/gingham/agent.sock",
      stateDir: "/var/lib/gingham",
      healthHost: "127.0.0.1",
      healthPort: 9099,
      metricsHost: "0.0.0.0",
      metricsPort: 9091,
      logLevel: "info",
      podInterfaceMTUBytes: 0,
      vxlan: VXLAN_DEFAULTS,
      mtu: { mtuIfacePattern: new RegExp(MTU_IFACE_PATTERN) },
      encapsulation: {},
      routeRefreshMs: 90_000,
      routesPodCIDRs: false,
      isPlan: false,
      usesHostMounts: false,
      nodeAddress: { 4: { kind: "node-object" }, 6: { kind: "node-object" } },
      addressPollMs: 60_000,
      ignoresDuplicates: false,
      packetFilter: { natOutgoing: true, natOutgoingExclusions: "IPPoolsOnly", randomFully: true },
      nftRefreshMs: 60_000,
      probesPaths: false,
      hasSelfTest: true,
      startupTaint: "gingham.dev/agent-not-ready",
      collect: "on",
      adopts: true,
      ipCooldownMs: 30_000,
      journalFileBytes: 2 ** 21,
      hasRemoteHistory: false,
    });
  });

  test("reads the environment, and a flag wins over it; an empty variable counts as absent", () => {
    const env = {
      NODENAME: "node-a",
      KUBECONFIG: "/etc/kubeconfig",
      GINGHAM_SOCKET: "/tmp/s",
      FELIX_HEALTHPORT: "1",
      FELIX_LOGSEVERITYSCREEN: "Warning",
      GINGHAM_STATE_DIR: "",
    };
    const config = parseAgentConfig(["--health-port", "0", "--pod-interface-mtu=1400", "--ip-cooldown=0"], env, "host");
    expect(config).toMatchObject({
      nodeName: "node-a",
      kubeconfig: "/etc/kubeconfig",
      socketPath: "/tmp/s",
      stateDir: "/var/lib/gingham",
      healthPort: 0,
      logLevel: "warn",
      podInterfaceMTUBytes: 1400,
      ipCooldownMs: 0,
    });
  });

  test("reads what concerns the packet filter, in Calico's words where it has them", () => {
    const env = {
      FELIX_NATPORTRANGE: "32768:60999",
      FELIX_NATOUTGOINGADDRESS: "192.0.2.7",
      FELIX_NATOUTGOINGEXCLUSIONS: "ippoolsandhostips",
      FELIX_NFTABLESREFRESHINTERVAL: "10",
    };
    expect(parseAgentConfig(["--nat-random-fully", "off", "--nat-outgoing=off"], env, "host")).toMatchObject({
      packetFilter: {
        natOutgoing: false,
        natPortRange: { min: 32_768, max: 60_999 },
        natOutgoingAddress: parseIP("192.0.2.7"),
        natOutgoingExclusions: "IPPoolsAndHostIPs",
        randomFully: false,
      },
      nftRefreshMs: 10_000,
    });
    expect(parseAgentConfig(["--packet-filter", "off"], env, "host")).not.toHaveProperty("packetFilter");
  });

  test("reads VXLAN and MTUs in Calico's words", () => {
    const env = { FELIX_VXLANPORT: "4790", FELIX_VXLANVNI: "5000", FELIX_VXLANMTUV6: "1400" };
    const { vxlan, mtu } = parseAgentConfig(["--mtu-iface-pattern", "^nic"], env, "host");
    expect(vxlan).toEqual({ port: 4790, vni: 5000 });
    expect(mtu).toEqual({ mtuIfacePattern: /^nic/, vxlanMTUV6: 1400 });
  });

  test("--plan needs no value, and takes one", () => {
    const isPlan = (...args: string[]) => parseAgentConfig(args, {}, "host").isPlan;
    expect([isPlan("--plan"), isPlan("--plan", "--ip=none"), isPlan("--plan", "on"), isPlan("--plan=on")]).toEqual(
      Array(4).fill(true),
    );
    expect([isPlan("--plan", "off"), isPlan("--plan=off")]).toEqual([false, false]);
  });

  test("reads this node's addresses in Calico's words", () => {
    const env = {
      IP: "autodetect",
      IP_AUTODETECTION_METHOD: "can-reach=192.0.2.9",
      IP6: "2001:db8::1/64",
      AUTODETECT_POLL_INTERVAL: "2m",
      DISABLE_NODE_IP_CHECK: "TRUE",
    };
    const { nodeAddress, ...rest } = parseAgentConfig(["--ip", "none"], env, "host");
    expect(nodeAddress).toMatchObject({ 4: { kind: "none" }, 6: { kind: "explicit", prefixLength: 64 } });
    expect(rest).toMatchObject({ addressPollMs: 120_000, ignoresDuplicates: true });
    expect(parseAgentConfig([], env, "host").nodeAddress[4]).toEqual({
      kind: "detect",
      method: { kind: "can-reach", destination: "192.0.2.9" },
    });
  });

  test("reads the key of the start-up taint, or that there is none", () => {
    const taint = (text: string) => parseAgentConfig(["--startup-taint", text], {}, "host").startupTaint;
    expect([taint("none"), taint("not-ready"), taint("node.example.com/a_b.C")]).toEqual([
      "",
      "not-ready",
      "node.example.com/a_b.C",
    ]);
  });

  test("reads the route source in Calico's words", () => {
    expect(parseAgentConfig([], {}, "host").routesPodCIDRs).toBe(false);
    expect(parseAgentConfig([], { FELIX_ROUTESOURCE: "workloadips" }, "host").routesPodCIDRs).toBe(true);
  });

  const bad: readonly [string, string[], Record<string, string>, string][] = [
    ["a route source", ["--route-source", "hosts"], {}, "--route-source"],
    ["a port", ["--health-port", "70000"], {}, "--health-port"],
    ["an unknown flag", ["--frob", "1"], {}, "--frob"],
    ["a flag without a value", ["--node-name"], {}, "--node-name"],
    ["a positional", ["frob"], {}, "frob"],
    ["a node name", [], { NODENAME: "Not A Name" }, "NODENAME"],
    ["a log level", ["--log-level", "loud"], {}, "--log-level"],
    ["an MTU", ["--pod-interface-mtu", "20"], {}, "--pod-interface-mtu"],
    ["a port of metrics", ["--metrics-port", "x"], {}, "--metrics-port"],
    ["an MTU of VXLAN", ["--vxlan-mtu=20"], {}, "--vxlan-mtu"],
    ["a pattern", ["--mtu-iface-pattern", "("], {}, "--mtu-iface-pattern"],
    ["a range of ports", ["--nat-port-range=5:4"], {}, "--nat-port-range"],
    ["an address", ["--nat-outgoing-address", "here"], {}, "--nat-outgoing-address"],
    ["exclusions", ["--nat-outgoing-exclusions", "All"], {}, "--nat-outgoing-exclusions"],
    ["a VXLAN network", ["--vxlan-vni", "16777216"], {}, "--vxlan-vni"],
    ["what to collect", [], { GINGHAM_COLLECT: "maybe" }, "GINGHAM_COLLECT"],
    ["who may ask", ["--remote-history", "yes"], {}, "--remote-history"],
    ["a cooldown", [], { GINGHAM_IP_COOLDOWN: "-1" }, "GINGHAM_IP_COOLDOWN"],
    ["a range of three ports", ["--nat-port-range", "1:2:3"], {}, "--nat-port-range"],
    ["a node address", [], { IP: "yes" }, "IP"],
    ["a node address of the other family", ["--ip6", "192.0.2.1"], {}, "--ip6"],
    ["a method", [], { IP_AUTODETECTION_METHOD: "eth0" }, "IP_AUTODETECTION_METHOD"],
    [
      "a method of the other family",
      ["--ip6-autodetection-method", "cidr=10.0.0.0/8"],
      {},
      "--ip6-autodetection-method",
    ],
    ["an interval", [], { AUTODETECT_POLL_INTERVAL: "soon" }, "AUTODETECT_POLL_INTERVAL"],
    ["a check", [], { DISABLE_NODE_IP_CHECK: "1" }, "DISABLE_NODE_IP_CHECK"],
    ["a taint", ["--startup-taint", "example.com/not ready"], {}, "--startup-taint"],
    ["a taint of three parts", [], { GINGHAM_STARTUP_TAINT: "a/b/c" }, "GINGHAM_STARTUP_TAINT"],
    ["a relative path", ["--socket", "s"], {}, "--socket"],
  ];
  for (const [what, args, env, option] of bad) {
    test(`refuses ${what} by the name under which it was given`, () => {
      let error: unknown;
      try {
        parseAgentConfig(args, env, "host");
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(ConfigError);
      expect(error).toMatchObject({ code: "Config", option });
      expect(String(error)).toContain(`${option}: `);
    });
  }

  test("agentUsage() names every flag with its variable", () => {
    expect(agentUsage()).toMatch(/--health-port +FELIX_HEALTHPORT +its port/);
  });

  test("agentUsage() glues no column to the next", () => {
    const [, ...lines] = agentUsage()
      .split("\n")
      .filter((line) => line.startsWith("  "));
    expect(lines.length).toBeGreaterThan(20);
    for (const line of lines) expect(line).toMatch(/^ {2}--[a-z0-9-]+ {2,}[A-Z0-9_]+ {2,}\S/);
  });
});

describe("resolveConfig() of all sources", () => {
  const FIELDS = {
    logSeverityScreen: "WARNING",
    healthHost: "0.0.0.0",
    healthPort: 9199,
    prometheusMetricsHost: "::",
    prometheusMetricsPort: 9191,
    mtuIfacePattern: "^nic",
    vxlanVNI: 5000,
    vxlanPort: 4790,
    vxlanMTU: 1400,
    vxlanMTUV6: 1300,
    vxlanEnabled: false,
    ipipMTU: 1450,
    ipipEnabled: true,
    routeSource: "WorkloadIPs",
    routeRefreshInterval: "1m30.5s",
    nftablesRefreshInterval: "2m0s",
    natPortRange: "32768:60999",
    natOutgoingAddress: "192.0.2.7",
    natOutgoingExclusions: "IPPoolsAndHostIPs",
  };

  test("reads every field that Calico has and the agent uses", () => {
    const { config, findings } = resolveConfig(LOCAL, [configuration("default", FIELDS)]);
    expect(findings).toEqual([]);
    expect(config).toMatchObject({
      logLevel: "warn",
      healthHost: "0.0.0.0",
      healthPort: 9199,
      metricsHost: "::",
      metricsPort: 9191,
      vxlan: { vni: 5000, port: 4790 },
      mtu: { mtuIfacePattern: /^nic/, vxlanMTU: 1400, vxlanMTUV6: 1300, ipipMTU: 1450 },
      encapsulation: { vxlan: false, ipip: true },
      routesPodCIDRs: true,
      routeRefreshMs: 90_500,
      nftRefreshMs: 120_000,
      packetFilter: {
        natPortRange: { min: 32_768, max: 60_999 },
        natOutgoingAddress: parseIP("192.0.2.7"),
        natOutgoingExclusions: "IPPoolsAndHostIPs",
      },
    });
  });

  test("the schema of the CRD has these fields and no other", () => {
    expect(Object.keys(FELIX_CONFIGURATION_KIND.spec.properties ?? {}).toSorted()).toEqual(
      Object.keys(FIELDS).toSorted(),
    );
  });

  test("flag, variable, this node's object, default: the first wins, field by field", () => {
    const all = [
      configuration("node.node-b", { vxlanVNI: 1, vxlanPort: 1 }),
      configuration("default", { vxlanVNI: 5, vxlanPort: 5, vxlanMTU: 1005, healthPort: 5 }),
      configuration("node.node-a", { vxlanVNI: 4, vxlanPort: 4, vxlanMTU: 1004 }),
    ];
    const local = { args: ["--vxlan-vni=2"], env: { FELIX_VXLANVNI: "3", FELIX_VXLANPORT: "3" }, hostName: "node-a" };
    const { config, inForce } = resolveConfig(local, all);
    expect([config.vxlan, config.mtu.vxlanMTU, config.healthPort]).toEqual([{ vni: 2, port: 3 }, 1004, 5]);
    expect(Object.fromEntries([...inForce].map(([name, { option }]) => [name, option]))).toEqual({
      "vxlan-vni": "--vxlan-vni",
      "vxlan-port": "FELIX_VXLANPORT",
      "vxlan-mtu": "FelixConfiguration node.node-a: vxlanMTU",
      "health-port": "FelixConfiguration default: healthPort",
    });
  });

  test("null and empty text say nothing; one port is a range, as a number too", () => {
    const node = configuration("node.node-a", { natOutgoingAddress: "", vxlanVNI: null });
    const all = configuration("default", { natOutgoingAddress: "192.0.2.7", vxlanVNI: 7, natPortRange: 4000 });
    const { config, findings } = resolveConfig(LOCAL, [node, all]);
    expect(findings).toEqual([]);
    expect(config.vxlan.vni).toBe(7);
    expect(config.packetFilter).toMatchObject({ natPortRange: { min: 4000, max: 4000 } });
    expect(config.packetFilter?.natOutgoingAddress).toBe(parseIP("192.0.2.7"));
  });

  const wrong: readonly [field: string, value: unknown, want: string][] = [
    ["logSeverityScreen", "loud", "Debug, Info, Warning, Error or Fatal"],
    ["healthPort", 70_000, "a whole number from 0 to 65535"],
    ["prometheusMetricsPort", -1, "a whole number"],
    ["mtuIfacePattern", "(", "a regular expression"],
    ["mtuIfacePattern", ["eth0"], "a text or a number"],
    ["vxlanVNI", 0, "a whole number from 1 to 16777215"],
    ["vxlanVNI", 1.5, "a whole number"],
    ["vxlanPort", true, "a whole number"],
    ["ipipEnabled", "yes", "true, false"],
    ["ipipMTU", 20, "at least 68"],
    ["vxlanMTU", 20, "at least 68"],
    ["routeSource", "Hosts", "CalicoIPAM, WorkloadIPs"],
    ["routeRefreshInterval", "soon", "1s to 24h"],
    ["routeRefreshInterval", "0s", "1s to 24h"],
    ["nftablesRefreshInterval", "-90s", "1s to 24h"],
    ["natPortRange", "5:4", "two ports"],
    ["natOutgoingAddress", { ip: "192.0.2.7" }, "a text or a number"],
    ["natOutgoingAddress", "here", "an address"],
    ["natOutgoingExclusions", "All", "IPPoolsOnly, IPPoolsAndHostIPs"],
  ];
  test.each(wrong)("a wrong %s (%j) is told by name, and what is said elsewhere holds", (field, value, want) => {
    const good = configuration("default", FIELDS);
    const { config, findings } = resolveConfig(LOCAL, [configuration("node.node-a", { [field]: value }), good]);
    expect(config).toEqual(resolveConfig(LOCAL, [good]).config);
    const subject = `FelixConfiguration node.node-a: ${field}`;
    expect(findings).toMatchObject([{ code: "ConfigIgnored", subject }]);
    expect(findings[0]?.message).toContain(want);
    expect(findings[0]?.message.startsWith(`${subject}: got `)).toBe(true);
    expect(findings[0]?.message).toContain(`; ignored: FelixConfiguration default: ${field} holds`);
    const alone = resolveConfig(LOCAL, [configuration("default", { [field]: value })]);
    expect(alone.config).toEqual(resolveConfig(LOCAL).config);
    expect(alone.findings[0]?.message).toContain("; ignored: the default holds");
  });

  test("a wrong variable that Calico has a field for is told, not fatal", () => {
    const env = { FELIX_NATPORTRANGE: "5:4", FELIX_VXLANMTU: "20" };
    const { config, findings } = resolveConfig({ ...LOCAL, env }, [configuration("default", { vxlanMTU: 1400 })]);
    expect(config.mtu.vxlanMTU).toBe(1400);
    expect(config.packetFilter).not.toHaveProperty("natPortRange");
    expect(findings.map(({ subject }) => subject).toSorted()).toEqual(["FELIX_NATPORTRANGE", "FELIX_VXLANMTU"]);
  });

  test("reads what else of the packet filter is in Calico's words, lists as lists and with commas", () => {
    const filterOf = (spec: FelixConfiguration["spec"], env: Record<string, string> = {}) =>
      resolveConfig({ ...LOCAL, env }, [configuration("default", spec)]).config.packetFilter;
    const networks = [parseCIDR("192.0.2.0/24"), parseCIDR("2001:db8::9/128")];
    const spec = {
      externalNodesList: ["192.0.2.0/24", "2001:db8::9"],
      allowVXLANPacketsFromWorkloads: true,
      allowIPIPPacketsFromWorkloads: false,
      iptablesNATOutgoingInterfaceFilter: "eth+",
    };
    expect(filterOf(spec)).toMatchObject({
      externalNodes: networks,
      tunnelsFromPods: ["VXLAN"],
      natOutgoingInterface: "eth*",
    });
    expect(filterOf({}, { FELIX_EXTERNALNODESCIDRLIST: "192.0.2.0/24, 2001:db8::9" })).toMatchObject({
      externalNodes: networks,
    });
    expect(Object.keys(filterOf({ externalNodesList: [] }) ?? {})).not.toContain("externalNodes");
  });

  test.each([
    [{ externalNodesList: ["here"] }, "externalNodesList"],
    [{ externalNodesList: "192.0.2.1,there" }, "externalNodesList"],
    [{ externalNodesList: [7] }, "externalNodesList"],
    [{ vxlanVNI: ["5"] }, "vxlanVNI"],
    [{ iptablesNATOutgoingInterfaceFilter: "eth0 eth1" }, "iptablesNATOutgoingInterfaceFilter"],
    [{ allowIPIPPacketsFromWorkloads: "perhaps" }, "allowIPIPPacketsFromWorkloads"],
  ])("%j is ignored and told by its name", (spec, field) => {
    const { findings } = resolveConfig(LOCAL, [configuration("default", spec)]);
    expect(findings).toMatchObject([{ code: "ConfigIgnored", subject: `FelixConfiguration default: ${field}` }]);
  });

  const unsupported: readonly [field: string, asked: unknown, agreed: unknown][] = [
    ["bpfEnabled", true, false],
    ["wireguardEnabled", true, false],
    ["wireguardEnabledV6", true, false],
    ["ipForwarding", "Disabled", "Enabled"],
    ["interfacePrefix", "tap", "tap,cali"],
    ["deviceRouteProtocol", 3, 80],
    ["deviceRouteSourceAddress", "192.0.2.1", ""],
    ["deviceRouteSourceAddressIPv6", "2001:db8::1", ""],
    ["floatingIPs", "Enabled", "Disabled"],
  ];
  test.each(unsupported)("%s is told where it asks for something else than what is done", (field, asked, agreed) => {
    const findingsOf = (node: object, all: object) =>
      resolveConfig(LOCAL, [configuration("node.node-a", { ...node }), configuration("default", { ...all })]).findings;
    const subject = `FelixConfiguration default: ${field}`;
    const told = findingsOf({}, { [field]: asked });
    expect(told).toMatchObject([{ code: "ConfigUnsupported", subject }]);
    expect(told[0]?.message).toContain(`${subject}: ${JSON.stringify(asked)} is not supported: `);
    expect(findingsOf({}, { [field]: agreed })).toEqual([]);
    expect(findingsOf({ [field]: agreed === "" ? null : agreed }, { [field]: asked })).toHaveLength(
      agreed === "" ? 1 : 0,
    );
  });

  test("objects for selected nodes are named; other fields of Calico's are nobody's business", () => {
    const selected = configuration("gpu", { nodeSelector: "has(gpu)", vxlanVNI: 9 });
    const all = configuration("default", { reportingInterval: "0s", failsafeInboundHostPorts: [{ port: 22 }] });
    const { config, findings } = resolveConfig(LOCAL, [selected, all, configuration("other", { vxlanVNI: 9 })]);
    expect(config.vxlan.vni).toBe(4096);
    expect(findings).toMatchObject([{ code: "ConfigUnsupported", subject: "FelixConfiguration gpu: nodeSelector" }]);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseIP } from "../net/ip.ts";
import { MTU_IFACE_PATTERN } from "./calc/mtu.ts";
import { agentUsage, parseAgentConfig } from "./config.ts";
import { ConfigError } from "./errors.ts";

describe("parseAgentConfig()", () => {
  test("has defaults for everything", () => {
    expect(parseAgentConfig([], {}, "Worker-1")).toEqual({
      nodeName: "worker-1",
      socketPath: "/run/gingham/agent.sock",
      stateDir: "/var/lib/gingham",
      healthHost: "127.0.0.1",
      healthPort: 9099,
      metricsHost: "0.0.0.0",
      metricsPort: 9091,
      logLevel: "info",
      podInterfaceMTUBytes: 0,
      vxlan: { vni: 4096, port: 4789 },
      mtu: { mtuIfacePattern: new RegExp(MTU_IFACE_PATTERN) },
      routeRefreshMs: 90_000,
      routesPodCIDRs: false,
      isPlan: false,
      nodeAddress: { 4: { kind: "node-object" }, 6: { kind: "node-object" } },
      addressPollMs: 60_000,
      ignoresDuplicates: false,
      packetFilter: { natOutgoing: true, natOutgoingExclusions: "IPPoolsOnly", randomFully: true },
      nftRefreshMs: 60_000,
      collect: "on",
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

  test("reads the route source in Calico's words", () => {
    expect(parseAgentConfig([], {}, "host").routesPodCIDRs).toBe(false);
    expect(parseAgentConfig([], { FELIX_ROUTESOURCE: "workloadips" }, "host").routesPodCIDRs).toBe(true);
  });

  const bad: readonly [string, string[], Record<string, string>, string][] = [
    ["a route source", ["--route-source", "hosts"], {}, "--route-source"],
    ["a port", ["--health-port", "70000"], {}, "--health-port"],
    ["a port in the environment", [], { FELIX_PROMETHEUSMETRICSPORT: "x" }, "FELIX_PROMETHEUSMETRICSPORT"],
    ["an unknown flag", ["--frob", "1"], {}, "--frob"],
    ["a flag without a value", ["--node-name"], {}, "--node-name"],
    ["a positional", ["frob"], {}, "frob"],
    ["a node name", [], { NODENAME: "Not A Name" }, "NODENAME"],
    ["a log level", ["--log-level", "loud"], {}, "--log-level"],
    ["an MTU", ["--pod-interface-mtu", "20"], {}, "--pod-interface-mtu"],
    ["an MTU of VXLAN", [], { FELIX_VXLANMTU: "20" }, "FELIX_VXLANMTU"],
    ["a VXLAN network", ["--vxlan-vni", "16777216"], {}, "--vxlan-vni"],
    ["a pattern", [], { FELIX_MTUIFACEPATTERN: "(" }, "FELIX_MTUIFACEPATTERN"],
    ["what to collect", [], { GINGHAM_COLLECT: "maybe" }, "GINGHAM_COLLECT"],
    ["who may ask", ["--remote-history", "yes"], {}, "--remote-history"],
    ["a cooldown", [], { GINGHAM_IP_COOLDOWN: "-1" }, "GINGHAM_IP_COOLDOWN"],
    ["a range of ports", [], { FELIX_NATPORTRANGE: "5:4" }, "FELIX_NATPORTRANGE"],
    ["a range of three ports", ["--nat-port-range", "1:2:3"], {}, "--nat-port-range"],
    ["an address", [], { FELIX_NATOUTGOINGADDRESS: "here" }, "FELIX_NATOUTGOINGADDRESS"],
    ["exclusions", [], { FELIX_NATOUTGOINGEXCLUSIONS: "All" }, "FELIX_NATOUTGOINGEXCLUSIONS"],
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
});

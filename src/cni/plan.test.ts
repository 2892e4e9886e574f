// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import { parseMAC } from "../net/mac.ts";
import { parseNetConf } from "./input/netconf.ts";
import { type AttachmentPlan, formatGoUTC, planAssign, planWiring } from "./plan.ts";

describe("formatGoUTC()", () => {
  // What Go's time.Now().UTC().String() prints: no trailing zeros, and no dot without a fraction.
  it.each([
    [1787395200123000000n, "2026-08-22 10:40:00.123 +0000 UTC"],
    [1787395200123456789n, "2026-08-22 10:40:00.123456789 +0000 UTC"],
    [1787395200000000100n, "2026-08-22 10:40:00.0000001 +0000 UTC"],
    [1787395200000000000n, "2026-08-22 10:40:00 +0000 UTC"],
  ])("%d", (ns, text) => {
    expect(formatGoUTC(ns)).toBe(text);
  });
});

describe("planAssign()", () => {
  const attributes = (contIface: string, pod?: { namespace: string; name: string }): object => {
    const plan: AttachmentPlan = {
      handleID: "net.c1",
      hostIface: "cali00000000001",
      contIface,
      netns: "/run/netns/a",
      nodeName: "node-a",
      ...(pod && { pod }),
      conf: parseNetConf({ cniVersion: "1.0.0", name: "net" }),
      podMTUBytes: 0,
    };
    return planAssign(plan, { families: [4] }, 0n).attributes;
  };
  const pod = { namespace: "default", name: "web" };

  it("names the pod only for the address that its status shows, or Calico's collector takes the others for leaks", () => {
    const timestamp = "1970-01-01 00:00:00 +0000 UTC";
    expect(attributes("eth0", pod)).toEqual({ namespace: "default", node: "node-a", pod: "web", timestamp });
    expect(attributes("net1", pod)).toEqual({
      node: "node-a",
      "gingham-interface": "net1",
      "gingham-namespace": "default",
      "gingham-pod": "web",
      timestamp,
    });
    expect(attributes("eth0")).toEqual({ node: "node-a", "gingham-interface": "eth0", timestamp });
  });
});

describe("planWiring()", () => {
  const plan = (conf: object): AttachmentPlan => ({
    handleID: "net.c1",
    hostIface: "cali00000000001",
    contIface: "eth0",
    netns: "/run/netns/a",
    nodeName: "node-a",
    conf: parseNetConf({ cniVersion: "1.0.0", name: "net", ...conf }),
    podMTUBytes: 1450,
  });
  const allocationOf = (ip: string) => ({
    ip: parseIP(ip),
    handleID: "net.c1",
    block: parseCIDR(`${ip}/26`),
    sequenceNumber: 1n,
  });

  it("routes each family that the pod has", () => {
    expect(planWiring(plan({}), [allocationOf("10.0.0.1")]).routes).toEqual([parseCIDR("0.0.0.0/0")]);
    expect(planWiring(plan({}), [allocationOf("fd00::1")]).routes).toEqual([parseCIDR("::/0")]);
  });

  it("refuses an MTU that IPv6 cannot have, and says whose it is", () => {
    const [four, six] = [allocationOf("10.0.0.1"), allocationOf("fd00::1")];
    expect(planWiring(plan({ mtu: 1200 }), [four]).mtuBytes).toBe(1200);
    expect(planWiring(plan({ mtu: 1280 }), [four, six]).mtuBytes).toBe(1280);
    const wrong = "An IPv6 address needs an MTU of 1280, and there is";
    expect(() => planWiring(plan({ mtu: 1200 }), [four, six])).toThrow(
      `${wrong} 1200, which the network configuration`,
    );
    expect(() => planWiring({ ...plan({}), podMTUBytes: 1217 }, [six])).toThrow(
      `${wrong} 1217, which links between nodes`,
    );
    expect(planWiring({ ...plan({}), podMTUBytes: 0 }, [six]).mtuBytes).toBe(0);
  });

  it("adds the default routes to those of another IPAM only when the configuration wants them", () => {
    const routes = ["10.0.0.0/8", "fd01::/16", "::/0"].map(parseCIDR);
    const given = [allocationOf("10.0.0.1"), allocationOf("fd00::1")];
    expect(planWiring(plan({}), given, { routes }).routes).toEqual(routes);
    const withDefaults = planWiring(plan({ include_default_routes: true }), given, { routes }).routes;
    expect(withDefaults).toEqual(["10.0.0.0/8", "0.0.0.0/0", "fd01::/16", "::/0"].map(parseCIDR));
    expect(planWiring(plan({ include_default_routes: true }), given).routes).toEqual(
      ["0.0.0.0/0", "::/0"].map(parseCIDR),
    );
  });

  it("takes the configuration's MTU, else the node's", () => {
    expect(planWiring(plan({ mtu: 1300 }), []).mtuBytes).toBe(1300);
    expect(planWiring(plan({}), []).mtuBytes).toBe(1450);
  });

  it("passes on MAC and forwarding", () => {
    const conf = { runtimeConfig: { mac: "02:00:00:00:00:09" }, container_settings: { allow_ip_forwarding: true } };
    expect(planWiring(plan(conf), [])).toMatchObject({
      contMAC: parseMAC("02:00:00:00:00:09"),
      allowIPForwarding: true,
    });
  });
});

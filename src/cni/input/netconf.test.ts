// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseIP } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";
import { decodeNetConf, parseNetConf, parseNetwork } from "./netconf.ts";

const containing = (words: string): unknown => expect.stringContaining(words);

const MINIMAL = { cniVersion: "1.0.0", name: "net", type: "gingham" };

function refusal(raw: object): { code: number; message: string } {
  try {
    parseNetConf({ ...MINIMAL, ...raw });
  } catch (error) {
    if (error instanceof CNIError) return { code: error.cniCode, message: error.message };
    throw error;
  }
  return { code: 0, message: "accepted" };
}

describe("parseNetConf()", () => {
  it("fills in defaults", () => {
    expect(parseNetConf(MINIMAL)).toEqual({
      cniVersion: "1.0.0",
      name: "net",
      families: [4],
      pools: { 4: [], 6: [] },
      mtuBytes: 0,
      queues: 0,
      allowIPForwarding: false,
      includeDefaultRoutes: false,
      readinessGates: [],
      dns: {},
    });
  });

  it("reads a user's Calico configuration", () => {
    const raw = {
      name: "k8s-pod-network",
      cniVersion: "0.3.1",
      type: "calico",
      log_level: "info",
      log_file_path: "/var/log/calico/cni/cni.log",
      datastore_type: "kubernetes",
      nodename: "node-a",
      mtu: 1440,
      ipam: { type: "calico-ipam", assign_ipv4: "false", assign_ipv6: "true", ipv6_pools: ["fd00::/64"] },
      container_settings: { allow_ip_forwarding: true },
      policy: { type: "k8s" },
      kubernetes: { kubeconfig: "/etc/cni/net.d/calico-kubeconfig" },
      runtimeConfig: {
        Mac: "02:AA:00:00:00:01",
        DNS: { Servers: ["10.96.0.10"], Searches: ["svc.cluster.local"], Options: ["ndots:5"] },
      },
      prevResult: null,
    };
    expect(parseNetConf(raw)).toEqual({
      cniVersion: "0.3.1",
      name: "k8s-pod-network",
      nodeName: "node-a",
      families: [6],
      pools: { 4: [], 6: ["fd00::/64"] },
      mtuBytes: 1440,
      queues: 0,
      allowIPForwarding: true,
      includeDefaultRoutes: false,
      readinessGates: [],
      kubeconfig: "/etc/cni/net.d/calico-kubeconfig",
      mac: "02:aa:00:00:00:01",
      dns: { nameservers: ["10.96.0.10"], search: ["svc.cluster.local"], options: ["ndots:5"] },
    });
  });

  it("takes booleans where Calico writes strings", () => {
    expect(parseNetConf({ ...MINIMAL, ipam: { assign_ipv4: true, assign_ipv6: true } }).families).toEqual([4, 6]);
  });

  it("prefers the runtime's DNS to the configured one, list by list", () => {
    const dns = { nameservers: ["1.1.1.1"], domain: "example", search: ["a"] };
    expect(parseNetConf({ ...MINIMAL, dns, runtimeConfig: { dns: { servers: ["9.9.9.9"] } } }).dns).toEqual({
      nameservers: ["9.9.9.9"],
      domain: "example",
      search: ["a"],
    });
  });

  it("treats a missing cniVersion as 0.2.0, as Calico's plugin does", () => {
    expect(parseNetConf({ name: "net" }).cniVersion).toBe("0.2.0");
  });

  it("reads the runtime's addresses, bare or with a length, by any spelling of the key", () => {
    const ips = (runtimeConfig: object): unknown => parseNetConf({ ...MINIMAL, runtimeConfig }).ips;
    expect(ips({ ips: ["10.0.0.5/24", "fd00::5"] })).toEqual([parseIP("10.0.0.5"), parseIP("fd00::5")]);
    expect(ips({ IPs: ["fd00::5/64"] })).toEqual([parseIP("fd00::5")]);
    expect(ips({ ips: [] })).toBeUndefined();
  });

  it.each([
    [{ cniVersion: "9.9.9" }, 1, "0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"],
    [{ cniVersion: 1 }, 1, "cniVersion 1"],
    [{ name: undefined }, 7, "name is missing"],
    [{ name: "" }, 7, "name"],
    [{ name: "../etc" }, 7, 'name is "../etc"'],
    [{ name: ".." }, 7, 'name is ".."'],
    [{ name: "a".repeat(201) }, 7, "at most 200"],
    [{ type: "bridge" }, 2, 'type is "bridge"'],
    [{ type: 5 }, 7, "type is 5"],
    [{ mtu: "1500" }, 7, 'mtu is "1500"'],
    [{ mtu: 67 }, 7, "mtu is 67"],
    [{ mtu: 65536 }, 7, "mtu is 65536"],
    [{ ipam: [] }, 7, "ipam is a list"],
    [{ ipam: { type: "dhcp" } }, 2, 'ipam.type is "dhcp"'],
    [{ ipam: { type: "../static" } }, 7, 'ipam.type is "../static"'],
    [{ type: "bridge", ipam: { type: "host-local" } }, 2, 'type is "bridge"'],
    [{ type: "bridge", ipam: { type: "gingham-ipam", subnet: "10.0.0.0" } }, 7, 'ipam.subnet is "10.0.0.0"'],
    [
      { type: "macvlan", ipam: { type: "gingham-ipam", subnet: "10.0.0.0/24", gateway: "10.0.1.1" } },
      7,
      "an address of 10.0.0.0/24",
    ],
    [{ ipam: { assign_ipv4: "yes" } }, 7, 'ipam.assign_ipv4 is "yes"'],
    [{ ipam: { assign_ipv4: "false" } }, 7, "assign_ipv6"],
    [{ ipam: { ipv4_pools: "pool" } }, 7, 'ipam.ipv4_pools is "pool"'],
    [{ ipam: { ipv4_pools: [1] } }, 7, "ipam.ipv4_pools[0] is 1"],
    [{ container_settings: { allow_ip_forwarding: "true" } }, 7, "container_settings.allow_ip_forwarding"],
    [{ kubernetes: "k" }, 7, "kubernetes"],
    [{ kubernetes: { kubeconfig: 1 } }, 7, "kubernetes.kubeconfig is 1"],
    [{ runtimeConfig: "x" }, 7, "runtimeConfig"],
    [{ runtimeConfig: { ips: "10.0.0.5" } }, 7, "runtimeConfig.ips"],
    [{ runtimeConfig: { ips: ["10.0.0.5", "x"] } }, 7, 'runtimeConfig.ips[1] is "x"'],
    [{ runtimeConfig: { ips: ["10.0.0.5/33"] } }, 7, 'runtimeConfig.ips[0] is "10.0.0.5/33"'],
    [{ runtimeConfig: { ips: ["10.0.0.5", "10.0.0.6"] } }, 7, "one address of each family"],
    [{ runtimeConfig: { MAC: "x" } }, 7, 'runtimeConfig.mac is "x"'],
    [{ nodename: {} }, 7, "nodename is an object"],
    [{ prevResult: "x" }, 7, "prevResult"],
    [{ num_queues: "2" }, 7, 'num_queues is "2"'],
    [{ num_queues: 4097 }, 7, "num_queues is 4097"],
    [{ nodename_file: 1 }, 7, "nodename_file is 1"],
  ])("refuses %j with code %i by name", (raw, code, words) => {
    expect(refusal(raw)).toEqual({ code, message: containing(words) });
  });
});

it("parseNetwork() reads no more than DEL needs", () => {
  expect(parseNetwork({ ...MINIMAL, mtu: "x", ipam: 3, type: "bridge" })).toEqual({ cniVersion: "1.0.0", name: "net" });
  expect(() => parseNetwork({ cniVersion: "1.0.0" })).toThrow("name is missing");
});

it.each(["", "{", "null", "[]", '"x"', "1"])("decodeNetConf() refuses %j with code 6", (stdin) => {
  expect(() => decodeNetConf(stdin)).toThrow(expect.objectContaining({ cniCode: 6 }));
});

// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { FAMILIES } from "../../src/lab/families.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { RunResult } from "../../src/lab/run.ts";
import {
  attachChain,
  type ChainedPod,
  type ChainRequest,
  DUAL,
  hello,
  ok,
  requirePrograms,
  startEcho,
} from "./support/chain.ts";
import { ROOT } from "./support/stack.ts";

/** Debian's tuning, firewall and sbr after gingham, and what runtimes may ask of gingham itself by capabilities. */

const PORT = 7;
const PLUGINS = ["tuning", "firewall", "sbr"].map(
  (plugin) => [`/usr/lib/cni/${plugin}`, "containernetworking-plugins"] as const,
);

let lab: RemoteLab;
let far: ChainedPod;
let attached: ChainedPod[] = [];

beforeAll(async () => {
  await requirePrograms({ ...Object.fromEntries(PLUGINS), iptables: "iptables", ss: "iproute2" });
  lab = await startLab({
    root: ROOT,
    script: join(ROOT, "src/main/lab.ts"),
    nodes: 2,
    pods: 0,
    families: FAMILIES.dual,
  });
  far = await attachChain(lab, { node: "node-2", name: "far", plugins: [DUAL] });
  await startEcho(far, PORT);
});
afterAll(() => lab.stop());
afterEach(async () => {
  // The last interface first; with eth0 goes the namespace.
  for (const pod of attached.reverse()) await pod.del();
  attached = [];
});

async function attach(request: Omit<ChainRequest, "node">): Promise<ChainedPod> {
  const pod = await attachChain(lab, { node: "node-1", ...request });
  attached.push(pod);
  return pod;
}

const onNode = (...argv: string[]): Promise<string> => ok(lab.exec("node-1", argv));
const inPod = (pod: ChainedPod, ...argv: string[]): Promise<string> => ok(pod.exec(...argv));

/** Over both families and protocols, from the pod to another node and back the other way. */
async function expectTraffic(pod: ChainedPod): Promise<void> {
  await startEcho(pod, PORT, 20);
  for (const protocol of ["tcp", "udp"] as const) {
    for (const i of [0, 1]) {
      const [own = "", other = ""] = [pod.ips[i], far.ips[i]];
      expect(await hello(pod.exec, { protocol, ip: other, port: PORT })).toBe(own);
      expect(await hello(far.exec, { protocol, ip: own, port: PORT })).toBe(other);
    }
  }
}

describe("tuning", () => {
  test("sets sysctls, MAC and promiscuous mode in the pod, and CHECK of both is good", async () => {
    const sysctl = { "net.core.somaxconn": "333", "net.ipv4.tcp_keepalive_time": "600" };
    const tuning = { type: "tuning", sysctl, mac: "02:11:22:33:44:55", promisc: true };
    const pod = await attach({ name: "tuned", plugins: [DUAL, tuning] });
    expect(await inPod(pod, "cat", "/proc/sys/net/core/somaxconn", "/proc/sys/net/ipv4/tcp_keepalive_time")).toBe(
      "333\n600\n",
    );
    const link = await inPod(pod, "ip", "-o", "link", "show", "eth0");
    expect(link).toContain("link/ether 02:11:22:33:44:55");
    expect(link).toContain("PROMISC");
    expect(pod.result.interfaces?.[1]).toMatchObject({ name: "eth0", mac: "02:11:22:33:44:55" });
    await pod.check();
    await expectTraffic(pod);
  });

  test("sets an MTU; gingham's CHECK refuses it, since results before 1.1.0 cannot tell of it", async () => {
    const pod = await attach({ name: "small", plugins: [DUAL, { type: "tuning", mtu: 1400 }] });
    expect(await inPod(pod, "ip", "-o", "link", "show", "eth0")).toContain(" mtu 1400 ");
    await expectTraffic(pod);
    await expect(pod.check()).rejects.toMatchObject({ plugin: "gingham", cniCode: 107 });
  });

  test("by the capability mac agrees with gingham, which takes it, too", async () => {
    const capabilities = { mac: true };
    const plugins = [
      { ...DUAL, capabilities },
      { type: "tuning", capabilities },
    ];
    const pod = await attach({ name: "mac", plugins, capabilityArgs: { mac: "02:11:22:33:44:66" } });
    expect(await inPod(pod, "ip", "-o", "link", "show", "eth0")).toContain("link/ether 02:11:22:33:44:66");
    await pod.check();
    await expectTraffic(pod);
  });
});

describe("firewall", () => {
  const REJECT = ["FORWARD", "-j", "REJECT"];
  const rules = async (): Promise<string> => `${await onNode("iptables-save")}${await onNode("ip6tables-save")}`;

  test("breaks no traffic, and lets out what the node's own rules would reject", async () => {
    const pod = await attach({ name: "fire", plugins: [DUAL, { type: "firewall", backend: "iptables" }] });
    await expectTraffic(pod);
    await pod.check();
    const plain = await attach({ name: "plain", plugins: [DUAL] });
    for (const command of ["iptables", "ip6tables"]) await onNode(command, "-A", ...REJECT);
    try {
      for (const i of [0, 1]) {
        const to = { protocol: "tcp", ip: far.ips[i] ?? "", port: PORT } as const;
        expect(await hello(pod.exec, to)).toBe(pod.ips[i]);
        expect(await hello(plain.exec, to)).toMatch(/^exit status/);
      }
    } finally {
      for (const command of ["iptables", "ip6tables"]) await onNode(command, "-D", ...REJECT);
    }
    for (const ip of pod.ips) expect(await rules()).toContain(`-s ${ip}/`);
  });

  test("has taken its rules away with the pod", async () => {
    expect(await rules()).not.toMatch(/-[sd] (?:192\.168\.|fd00:10:244:)/);
  });
});

describe("sbr", () => {
  test("gives a second interface its own way out: both answer by the interface that was asked", async () => {
    const eth0 = await attach({ name: "two", plugins: [DUAL] });
    const net1 = await attach({
      name: "two",
      network: "second",
      ifName: "net1",
      plugins: [DUAL, { type: "sbr" }],
      needsNetns: true,
      disableCheck: true,
    });
    expect(net1.result.ips?.map(({ gateway }) => gateway)).toEqual(["169.254.1.1", "fe80::ecee:eeff:feee:eeee"]);
    await startEcho(eth0, PORT, 20);
    for (const pod of [eth0, net1]) {
      for (const [i, ip] of pod.ips.entries()) {
        // Not UDP: on any machine with two addresses a server must choose the one to answer from, and this one does not.
        expect(await hello(far.exec, { protocol: "tcp", ip, port: PORT })).toBe(far.ips[i]);
        await ok(far.exec("fping", "-q", "-c", "1", "-t", "1000", ip));
        const family = ip.includes(":") ? "-6" : "-4";
        const route = await inPod(eth0, "ip", family, "route", "get", far.ips[i] ?? "", "from", ip);
        expect(route).toContain(pod === eth0 ? "dev eth0" : "dev net1");
      }
    }
    await eth0.check();
    // What the pod sends of its own accord goes by eth0.
    for (const [i, ip] of far.ips.entries()) {
      expect(await hello(eth0.exec, { protocol: "udp", ip, port: PORT })).toBe(eth0.ips[i]);
    }
  });

  test("leaves rules and routes of the first interface as they were, once the second is gone", async () => {
    const state = async (pod: ChainedPod): Promise<string> => {
      const commands = ["ip rule", "ip -6 rule", "ip route", "ip -6 route", "ip -o address"];
      return inPod(pod, "sh", "-c", commands.join("; "));
    };
    const eth0 = await attach({ name: "again", plugins: [DUAL] });
    const before = await state(eth0);
    const plugins = [DUAL, { type: "sbr" }];
    const request = { node: "node-1", name: "again", network: "second", ifName: "net1", plugins, needsNetns: true };
    const net1 = await attachChain(lab, request);
    expect(await state(eth0)).not.toBe(before);
    await net1.del();
    expect(await state(eth0)).toBe(before);
    await eth0.check();
  });
});

describe("a second interface without sbr", () => {
  test("passes CHECK and leaves the first one alone, but its answers leave by eth0, and the node drops them", async () => {
    const eth0 = await attach({ name: "pair", plugins: [DUAL] });
    const net1 = await attach({ name: "pair", network: "second", ifName: "net1", plugins: [DUAL] });
    await net1.check();
    await expectTraffic(eth0);
    for (const ip of net1.ips) {
      expect(await hello(far.exec, { protocol: "tcp", ip, port: PORT })).toBe("exit status 124");
    }
  });
});

describe("the capability ips", () => {
  test("names the addresses, and refuses one that another pod has", async () => {
    const wanted = ["192.168.77.5", "fd00:10:244::7705"];
    const plugins = [{ ...DUAL, capabilities: { ips: true } }];
    const capabilityArgs = { ips: [`${wanted[0]}/24`, wanted[1]] };
    const pod = await attach({ name: "wanted", plugins, capabilityArgs });
    expect(pod.ips).toEqual(wanted);
    await pod.check();
    // A new block: other nodes hear of it a moment later.
    const isHeard = async (): Promise<RunResult> =>
      far.exec("fping", "-q", "-r", "20", "-B", "1", "-t", "200", ...wanted);
    expect((await isHeard()).exitCode).toBe(0);
    await expectTraffic(pod);
    const second = attachChain(lab, { node: "node-1", name: "late", plugins, capabilityArgs });
    await expect(second).rejects.toThrow(/(?:192\.168\.77\.5|fd00:10:244::7705) is still held on node node-1/);
  });
});

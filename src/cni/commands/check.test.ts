// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { IPAMError } from "../../ipam/errors.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { parseMAC } from "../../net/mac.ts";
import { type CallOptions, FakeMachine, type FakeProcess } from "../fake-cni.ts";
import type { WiringFacts } from "../ports.ts";

const IFACE = "cali0d7763386da";
const ID = { network: "k8s-pod-network", containerID: "c1", ifName: "eth0" };
const DUAL = { ipam: { type: "gingham-ipam", assign_ipv4: "true", assign_ipv6: "true" } };

interface Answer {
  readonly interfaces: readonly Record<string, unknown>[];
  readonly ips: readonly Record<string, unknown>[];
  readonly routes: readonly Record<string, unknown>[];
}

let machine: FakeMachine;
let agent: FakeProcess;
let prevResult: Answer;
beforeEach(async () => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  agent = machine.start();
  prevResult = await addIn("1.1.0");
});
afterEach(() => machine[Symbol.dispose]());

async function addIn(cniVersion: string): Promise<Answer> {
  return JSON.parse((await agent.call("ADD", { conf: { ...DUAL, cniVersion } })).stdout) as Answer;
}

/** The error of CHECK, as `code message`; empty text when all is well. */
async function check(conf: object = {}, options: CallOptions = {}): Promise<string> {
  const { stdout, exitCode } = await agent.call("CHECK", {
    ...options,
    conf: { ...DUAL, cniVersion: "1.1.0", prevResult, ...conf },
  });
  if (exitCode === 0) return stdout;
  const { code, msg } = JSON.parse(stdout) as { code: number; msg: string };
  return `${code} ${msg}`;
}

const tamper = (change: (facts: WiringFacts) => WiringFacts): void => machine.kernel.tamper(IFACE, change);

describe("CHECK", () => {
  it.each(["1.1.0", "1.0.0", "0.4.0"])("finds nothing wrong with what ADD made, in %s", async (cniVersion) => {
    await agent.call("DEL");
    prevResult = await addIn(cniVersion);
    expect(await check({ cniVersion })).toBe("");
    expect(await check({ cniVersion })).toBe("");
  });

  const v4 = parseIP("10.244.0.64");
  it.each<[string, (facts: WiringFacts) => WiringFacts, string, string]>([
    ["the host's link", (f) => leaveOut(f, "hostLink"), `link ${IFACE} of the host`, "want index 10, have none"],
    ["its index", (f) => withHost(f, { ifIndex: 99 }), `link ${IFACE} of the host`, "want index 10, have index 99"],
    [
      "its MAC",
      (f) => withHost(f, { mac: parseMAC("02:00:00:00:00:99") }),
      "MAC of link cali",
      "have 02:00:00:00:00:99",
    ],
    ["its MTU", (f) => withHost(f, { mtuBytes: 1500 }), `MTU of link ${IFACE}`, "want 1450, have 1500"],
    ["its state", (f) => withHost(f, { isUp: false }), `state of link ${IFACE}`, "want up, have down"],
    ["the pod's link", (f) => leaveOut(f, "contLink"), "link eth0 in /run/netns/c1", `want the other end of ${IFACE}`],
    ["its other end", (f) => withCont(f, { peerIfIndex: 77 }), "link eth0 in /run/netns/c1", "have another link"],
    [
      "its MAC",
      (f) => withCont(f, { mac: parseMAC("02:00:00:00:00:99") }),
      "MAC of link eth0",
      "have 02:00:00:00:00:99",
    ],
    ["its MTU", (f) => withCont(f, { mtuBytes: 1400 }), "MTU of link eth0 in /run/netns/c1", "want 1450, have 1400"],
    ["its state", (f) => withCont(f, { isUp: false }), "state of link eth0", "want up, have down"],
    [
      "the IPv4 address",
      (f) => ({ ...f, contAddrs: f.contAddrs.filter(({ ip }) => ip !== v4) }),
      "addresses of eth0",
      "want 10.244.0.64/32, have fd00:10:244::/128",
    ],
    [
      "the prefix length",
      (f) => ({ ...f, contAddrs: f.contAddrs.map((addr) => ({ ...addr, prefixLength: 24 })) }),
      "addresses of eth0",
      "want 10.244.0.64/32, have 10.244.0.64/24",
    ],
    [
      "the IPv6 address",
      (f) => ({ ...f, contAddrs: f.contAddrs.slice(0, 1) }),
      "addresses of eth0",
      "want fd00:10:244::/128",
    ],
    [
      "the route to the gateway",
      without("169.254.1.1/32"),
      "routes of eth0",
      "want 169.254.1.1/32, have 0.0.0.0/0 via",
    ],
    [
      "the default route",
      without("0.0.0.0/0"),
      "routes of eth0",
      "want 0.0.0.0/0 via 169.254.1.1, have 169.254.1.1/32",
    ],
    ["the IPv6 default route", without("::/0"), "routes of eth0", "want ::/0 via fe80::ecee:eeff:feee:eeee"],
    [
      "its next hop",
      (f) => ({ ...f, contRoutes: f.contRoutes.map((r) => (r.gateway ? { ...r, gateway: parseIP("10.0.0.1") } : r)) }),
      "routes of eth0",
      "want 0.0.0.0/0 via 169.254.1.1, have 169.254.1.1/32, 0.0.0.0/0 via 10.0.0.1",
    ],
    [
      "its device",
      (f) => ({ ...f, contRoutes: f.contRoutes.map((route) => ({ ...route, dev: "eth1" })) }),
      "routes of eth0",
      "want 169.254.1.1/32, have none",
    ],
    ["the gateway's IPv6 address", (f) => ({ ...f, hostAddrs: [] }), `addresses of ${IFACE}`, "want fe80::ecee"],
    [
      "the host's route",
      (f) => ({ ...f, hostRoutes: f.hostRoutes.map(({ ip }) => ({ ip })) }),
      "route of the host to 10.244.0.64",
      `want 10.244.0.64/32 dev ${IFACE}, have none`,
    ],
    [
      "its device",
      (f) => ({
        ...f,
        hostRoutes: f.hostRoutes.map(({ ip, route }) => ({ ip, ...(route && { route: { ...route, dev: "eth9" } }) })),
      }),
      "route of the host to 10.244.0.64",
      "have 10.244.0.64/32 dev eth9",
    ],
    [
      "its width",
      (f) => ({
        ...f,
        hostRoutes: f.hostRoutes.map(({ ip, route }) => ({
          ip,
          ...(route && { route: { ...route, dst: parseCIDR("10.244.0.64/26") } }),
        })),
      }),
      "route of the host to 10.244.0.64",
      "have 10.244.0.64/26",
    ],
    [
      "a setting",
      (f) => ({
        ...f,
        hostSysctls: f.hostSysctls.map((s) => (s.path.endsWith("proxy_arp") ? { ...s, actual: "0" } : s)),
      }),
      `setting net/ipv4/conf/${IFACE}/proxy_arp`,
      "want 1, have 0",
    ],
  ])("names %s when that is not as it was made", async (_what, change, object, words) => {
    tamper(change);
    const answer = await check();
    expect(answer).toMatch(/^107 CHECK of k8s-pod-network\/c1:eth0: /);
    expect(answer).toContain(object);
    expect(answer).toContain(words);
    expect(answer, "a next step").toContain("; ");
  });

  it("lets other plugins add addresses, routes and interfaces, and change MAC and MTU where prevResult says so", async () => {
    tamper((facts) => ({
      ...withCont(facts, { mac: parseMAC("02:00:00:00:00:99"), mtuBytes: 1300 }),
      contAddrs: [...facts.contAddrs, { ip: parseIP("192.0.2.1"), prefixLength: 24 }],
      contRoutes: [...facts.contRoutes, { dst: parseCIDR("192.0.2.0/24"), dev: "net1", protocol: 2, scope: "link" }],
    }));
    expect(await check()).toContain("MAC of link eth0");
    const [host, container] = prevResult.interfaces;
    prevResult = {
      interfaces: [{ name: "ifb0" }, { ...container, mac: "02:00:00:00:00:99", mtu: 1300 }, host ?? {}],
      ips: [...prevResult.ips.map((ip) => ({ ...ip, interface: 1 })), { address: "192.0.2.1/24", interface: 1 }],
      routes: [...prevResult.routes, { dst: "192.0.2.0/24" }],
    };
    expect(await check()).toBe("");
  });

  it.each<[string, (prev: Answer) => unknown, string]>([
    ["no interface of the host", (p) => ({ ...p, interfaces: p.interfaces.slice(1) }), `want ${IFACE}, have eth0`],
    ["no interface of the pod", (p) => ({ ...p, interfaces: p.interfaces.slice(0, 1) }), "want eth0 in /run/netns/c1"],
    ["no address", (p) => ({ ...p, ips: [] }), "ips of eth0 in prevResult: want 10.244.0.64/32, have none"],
    ["another address", (p) => ({ ...p, ips: [{ address: "10.9.9.9/32" }] }), "have 10.9.9.9/32"],
    ["an address of another interface", (p) => ({ ...p, ips: [{ ...p.ips[0], interface: 0 }] }), "have none"],
    ["no route", (p) => ({ ...p, routes: [] }), "routes of prevResult: want 0.0.0.0/0 via 169.254.1.1, have none"],
  ])("names what prevResult lacks: %s", async (_what, change, words) => {
    const answer = await check({ prevResult: change(prevResult) });
    expect(answer).toMatch(/^107 /);
    expect(answer).toContain(words);
  });

  it.each([
    [undefined, "no prevResult"],
    [null, "no prevResult"],
    [[], "prevResult is a list"],
    [{ interfaces: [{}] }, "prevResult.interfaces[0].name is missing"],
    [{ ips: [{ address: "10.0.0.1" }] }, 'prevResult.ips[0].address is "10.0.0.1"'],
    [{ routes: "default" }, 'prevResult.routes is "default"'],
  ])("refuses the prevResult %j with code 7", async (given, words) => {
    const answer = await check({ prevResult: given });
    expect(answer).toMatch(/^7 /);
    expect(answer).toContain(words);
  });

  it("names an address that the datastore has given to somebody else, or lost", async () => {
    const [held] = machine.addresses.held;
    if (held === undefined) throw new Error("nothing is held");
    await machine.addresses.release([held]);
    const text = `allocation of 10.244.0.64: want held by k8s-pod-network.c1 since sequence number ${held.sequenceNumber}`;
    expect(await check()).toContain(`${text}, have 10.244.0.64 is free`);
    await machine.addresses.assign({ handleID: "k8s-pod-network.c2", attributes: {}, families: [4] });
    expect(await check()).toContain("have 10.244.0.64 is held by k8s-pod-network.c2");
  });

  it("is error 11 while the datastore is away, and waits for it no longer than a DEL does", async () => {
    machine.addresses.away = new IPAMError("Datastore", "API server is down");
    expect(await check()).toBe("11 API server is down");
    const asked = Promise.withResolvers<void>();
    machine.addresses.contradiction = () => {
      asked.resolve();
      return new Promise(() => {});
    };
    const checking = check();
    await asked.promise;
    await machine.clock.advance(5000);
    expect(await checking).toMatch(
      /^11 Read of the allocation of 10\.244\.0\.64 was cancelled: no answer within 5000 ms/,
    );
  });

  it("yields to a DEL of the same attachment", async () => {
    const asked = Promise.withResolvers<void>();
    machine.addresses.contradiction = () => {
      asked.resolve();
      return new Promise(() => {});
    };
    const checking = check();
    await asked.promise;
    expect((await agent.call("DEL")).exitCode).toBe(0);
    expect(await checking).toMatch(/^11 /);
    expect(machine.addresses.held).toEqual([]);
  });

  it("knows no attachment that was never made, is gone, or is of another boot or namespace", async () => {
    expect(await check({}, { containerID: "never" })).toMatch(/^107 .*record .*want whole, have none/);
    machine.kernel.addNetns("/run/netns/c2");
    expect(await check({}, { netns: "/run/netns/c2" })).toMatch(/^107 .*want namespace \/run\/netns\/c2 /);
    expect(await check({}, { netns: "/run/netns/gone" })).toMatch(/^4 /);
    machine.reboot();
    machine.kernel.addNetns("/run/netns/c1");
    agent = machine.start();
    expect(await check()).toMatch(/^107 .*want boot boot-1\+, have boot boot-1/);
    await agent.call("DEL");
    expect(await check()).toMatch(/^107 .*have none/);
  });

  it("says that a release waits", async () => {
    machine.addresses.away = new IPAMError("Datastore", "API server is down");
    await agent.call("DEL");
    expect(await check()).toMatch(/^107 .*want whole, have releasing/);
  });

  it("leaves an ADD of another process alone, and a record that cannot be read", async () => {
    const other = machine.start();
    const stored = await agent.cni.records.read(ID);
    if (stored.kind !== "record" || stored.record.state !== "whole") throw new Error("no record");
    const { hostIfIndex: _i, allocations: _a, result: _r, ...shared } = stored.record;
    await agent.cni.records.create(ID, { ...shared, state: "intent", executor: other.executor });
    expect(await check()).toMatch(/^11 .*is being added by process/);
    Object.assign(agent.cni, {
      records: { ...agent.cni.records, read: async () => ({ kind: "broken", reason: "torn" }) },
    });
    expect(await check()).toMatch(/^107 .*have torn/);
  });

  it("refuses another node's configuration and what an ADD would refuse", async () => {
    expect(await check({ nodename: "node-b" })).toMatch(/^7 .*nodename is "node-b"/);
    expect(await check({ mtu: "big" })).toMatch(/^7 .*mtu/);
  });

  it("writes nothing", async () => {
    const told = agent.told.length;
    tamper((facts) => withHost(facts, { isUp: false }));
    await check();
    expect(agent.told).toHaveLength(told);
    expect(machine.kernel.links).toHaveLength(1);
    expect(machine.addresses.held).toHaveLength(2);
    expect((await agent.cni.records.read(ID)).kind).toBe("record");
  });
});

function leaveOut(facts: WiringFacts, field: "hostLink" | "contLink"): WiringFacts {
  const { [field]: _left, ...others } = facts;
  return others;
}

function withHost(facts: WiringFacts, change: object): WiringFacts {
  return { ...facts, ...(facts.hostLink && { hostLink: { ...facts.hostLink, ...change } }) };
}

function withCont(facts: WiringFacts, change: object): WiringFacts {
  return { ...facts, ...(facts.contLink && { contLink: { ...facts.contLink, ...change } }) };
}

function without(dst: string): (facts: WiringFacts) => WiringFacts {
  const { network, prefixLength } = parseCIDR(dst);
  return (facts) => ({
    ...facts,
    contRoutes: facts.contRoutes.filter((r) => r.dst.network !== network || r.dst.prefixLength !== prefixLength),
  });
}

// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CNI_CODE } from "../errors.ts";
import { FakeMachine, type FakeProcess, K8S_ARGS } from "../fake-cni.ts";
import { sweep } from "../reconcile.ts";
import { FakeIPAM } from "./fake-ipam.ts";

// Typed, since Vitest's matchers are any.
const containing = (words: string): unknown => expect.stringContaining(words);
const having = (object: object): unknown => expect.objectContaining(object);

const VALID = "cni.dev/valid-attachments";
const HOST_LOCAL = { ipam: { type: "host-local", subnet: "10.9.0.0/24" } };

let machine: FakeMachine;
let agent: FakeProcess;
let ipam: FakeIPAM;
beforeEach(() => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  ipam = new FakeIPAM();
  machine.delegates = ipam;
  agent = machine.start();
});
afterEach(() => machine[Symbol.dispose]());

const parsed = (reply: { readonly stdout: string }) => JSON.parse(reply.stdout) as Record<string, unknown>;

/** Files are written before, and so no clock says when. */
async function called(command: string, times = 1): Promise<void> {
  await expect.poll(() => ipam.calls.filter((call) => call.endsWith(command)).length).toBe(times);
}

async function nothingLeft(): Promise<void> {
  expect(machine.kernel.links).toEqual([]);
  expect([...ipam.held]).toEqual([]);
  expect(machine.addresses.requests).toEqual([]);
  expect(await agent.cni.records.list()).toEqual([]);
}

describe("ADD", () => {
  it("wires what the other plugin gives, narrowed, with its routes and name servers, and asks our own IPAM for nothing", async () => {
    ipam.extra = { routes: [{ dst: "10.0.0.0/8", gw: "10.9.0.1" }], dns: { nameservers: ["10.9.0.53"] } };
    const reply = await agent.call("ADD", { conf: HOST_LOCAL });
    expect(parsed(reply)).toMatchObject({
      ips: [{ address: "10.9.0.2/32", interface: 1 }],
      routes: [{ dst: "10.0.0.0/8", gw: "169.254.1.1" }],
      dns: { nameservers: ["10.9.0.53"] },
    });
    expect(ipam.executions).toEqual([
      {
        type: "host-local",
        env: having({ CNI_COMMAND: "ADD", CNI_CONTAINERID: "c1", CNI_IFNAME: "eth0", CNI_PATH: "/opt/cni/bin" }),
        stdin: containing('"subnet":"10.9.0.0/24"'),
      },
    ]);
    expect(machine.addresses.requests).toEqual([]);
  });

  it("answers a repeated call from the record", async () => {
    const first = await agent.call("ADD", { conf: HOST_LOCAL });
    expect(await agent.call("ADD", { conf: HOST_LOCAL })).toEqual(first);
    expect(ipam.calls).toEqual(["host-local ADD"]);
  });

  it("reads answers of versions before 0.3.0", async () => {
    const ip4 = { ip: "10.9.0.7/24", gateway: "10.9.0.1", routes: [{ dst: "0.0.0.0/0" }] };
    ipam.misbehaves.set("ADD", { stdout: JSON.stringify({ cniVersion: "0.2.0", ip4 }) });
    const reply = await agent.call("ADD", { conf: { ...HOST_LOCAL, cniVersion: "0.2.0" } });
    expect(parsed(reply)).toMatchObject({ ip4: { ip: "10.9.0.7/32" } });
  });

  it.each([
    ["fails", { exitCode: 1, stdout: '{"code":100,"msg":"no addresses"}' }, "with code 100: no addresses"],
    ["dies", { exitCode: null, stderr: "panic: oops" }, "panic: oops"],
    ["babbles", { stdout: "hello" }, "what is no result"],
    ["gives nothing", { stdout: '{"cniVersion":"1.0.0","ips":[]}' }, "at least one address"],
  ] as const)("has the addresses taken back when the plugin %s", async (_how, executed, words) => {
    ipam.misbehaves.set("ADD", executed);
    const reply = await agent.call("ADD", { conf: HOST_LOCAL });
    expect(parsed(reply)).toMatchObject({ code: CNI_CODE.Delegate, msg: containing(words) });
    expect(ipam.calls).toEqual(["host-local ADD", "host-local DEL"]);
    await nothingLeft();
  });

  it.each([
    ["as an error", { exitCode: 1, stdout: "x".repeat(2000) }],
    ["as a result", { stdout: JSON.stringify({ cniVersion: "1.0.0", ips: "x".repeat(2000) }) }],
  ])("quotes little of what a plugin babbles %s", async (_how, executed) => {
    ipam.misbehaves.set("ADD", executed);
    const { msg } = parsed(await agent.call("ADD", { conf: HOST_LOCAL }));
    expect(msg).toMatch(/xxx.*…/);
    expect(String(msg).length).toBeLessThan(400);
  });

  it("kills a plugin that hangs, and has its addresses taken back", async () => {
    ipam.misbehaves.set("ADD", "hang");
    const reply = agent.call("ADD", { conf: HOST_LOCAL });
    await called("ADD");
    await machine.clock.advance(30_000);
    expect(parsed(await reply)).toMatchObject({ code: CNI_CODE.Delegate, msg: containing("was killed") });
    await nothingLeft();
  });

  it("has addresses taken back when the wiring fails", async () => {
    machine.kernel.addForeignIface("/run/netns/c1", "eth0");
    expect((await agent.call("ADD", { conf: HOST_LOCAL })).exitCode).toBe(1);
    expect(ipam.calls).toEqual(["host-local ADD", "host-local DEL"]);
    await nothingLeft();
  });

  it("takes no running pod's address away when the plugin gives it twice, and has it taken back", async () => {
    const other = { containerID: "c2", netns: "/run/netns/c2", args: K8S_ARGS.replace("web-0", "web-1") };
    machine.kernel.addNetns(other.netns);
    await agent.call("ADD", { conf: HOST_LOCAL });
    const told = [...agent.told];
    const again = JSON.stringify({ cniVersion: "1.0.0", ips: [{ address: "10.9.0.2/24" }] });
    ipam.misbehaves.set("ADD", { stdout: again });
    const reply = parsed(await agent.call("ADD", { ...other, conf: HOST_LOCAL }));
    expect(reply).toMatchObject({ code: CNI_CODE.TryAgainLater, msg: containing("k8s-pod-network/c1:eth0") });
    expect(reply).toMatchObject({ msg: containing("host-local") });
    expect(agent.told).toEqual(told);
    expect(machine.kernel.links).toHaveLength(1);
    expect([...ipam.held.keys()]).toEqual(["c1"]);
    ipam.misbehaves.clear();
    expect((await agent.call("ADD", { ...other, conf: HOST_LOCAL })).exitCode).toBe(0);
  });

  it("puts the node's networks where usePodCidr stands, whatever its case", async () => {
    machine.podCIDRs = ["10.9.3.0/24", "fd00:9::/64"];
    const ranges = [[{ subnet: "usepodcidr", rangeStart: "10.9.3.9" }], [{ subnet: "usePodCidrIPv6" }]];
    await agent.call("ADD", { conf: { ipam: { type: "host-local", ranges } } });
    const conf = JSON.parse(ipam.executions[0]?.stdin ?? "") as { ipam: unknown };
    expect(conf.ipam).toEqual({
      type: "host-local",
      ranges: [[{ subnet: "10.9.3.0/24", rangeStart: "10.9.3.9" }], [{ subnet: "fd00:9::/64" }]],
    });
  });

  it("refuses usePodCidr on a node without a network, and leaves nothing", async () => {
    const reply = await agent.call("ADD", { conf: { ipam: { type: "host-local", subnet: "usePodCidr" } } });
    expect(parsed(reply)).toMatchObject({ code: CNI_CODE.Delegate, msg: containing("--allocate-node-cidrs") });
    expect(ipam.calls).toEqual([]);
    await nothingLeft();
  });

  it("refuses a pod's wish for an address, which the other plugin would not hear of", async () => {
    const annotations = { "cni.projectcalico.org/ipAddrs": '["10.9.0.7"]' };
    machine.pods = { get: async () => ({ uid: "u1", labels: {}, annotations }) };
    const reply = await machine.start().call("ADD", { conf: HOST_LOCAL });
    expect(parsed(reply)).toMatchObject({ code: 7, msg: containing("host-local gives the addresses") });
    expect(ipam.calls).toEqual([]);
  });
});

describe("DEL", () => {
  it("has the plugin of the record take back, with the configuration of ADD, whatever the present one says", async () => {
    machine.podCIDRs = ["10.9.3.0/24"];
    await agent.call("ADD", { conf: { ipam: { type: "host-local", subnet: "usePodCidr" } } });
    expect((await agent.call("DEL")).exitCode).toBe(0);
    expect(ipam.calls).toEqual(["host-local ADD", "host-local DEL"]);
    expect(ipam.executions[1]?.stdin).toContain('"subnet":"10.9.3.0/24"');
    await nothingLeft();
  });

  it("calls the plugin of the configuration when there is no record, with any network for usePodCidr", async () => {
    ipam.held.set("c1", "10.9.0.9");
    const conf = { ipam: { type: "host-local", subnet: "usePodCidr" } };
    expect(await agent.call("DEL", { conf, netns: "" })).toMatchObject({ exitCode: 0, stdout: "" });
    expect(ipam.executions[0]?.stdin).toContain('"subnet":"0.0.0.0/0"');
    await nothingLeft();
  });

  it("succeeds while the plugin fails or hangs, and the sweep goes on, without holding up others", async () => {
    await agent.call("ADD", { conf: HOST_LOCAL });
    machine.kernel.addNetns("/run/netns/c2");
    await agent.call("ADD", { containerID: "c2", netns: "/run/netns/c2", args: "" });
    ipam.misbehaves.set("DEL", "hang");
    const reply = agent.call("DEL", { conf: HOST_LOCAL });
    await called("DEL");
    await machine.clock.advance(5000);
    expect((await reply).exitCode).toBe(0);
    machine.kernel.removeNetns("/run/netns/c2");
    const swept = sweep(agent.cni);
    await called("DEL", 2);
    await machine.clock.advance(5000);
    expect(await swept).toMatchObject({ released: 1, postponed: 1 });
    ipam.misbehaves.clear();
    expect(await sweep(agent.cni)).toMatchObject({ released: 1, postponed: 0 });
    expect([...ipam.held]).toEqual([]);
    expect(machine.addresses.held).toEqual([]);
  });

  it("has nothing to do when the plugin is missing and nobody knows of an address, else it waits for the plugin", async () => {
    ipam.isMissing = true;
    expect(parsed(await agent.call("ADD", { conf: HOST_LOCAL }))).toMatchObject({ code: CNI_CODE.Delegate });
    expect((await agent.call("DEL", { conf: HOST_LOCAL })).exitCode).toBe(0);
    await nothingLeft();
    ipam.isMissing = false;
    await agent.call("ADD", { conf: HOST_LOCAL });
    ipam.isMissing = true;
    expect((await agent.call("DEL", { conf: HOST_LOCAL })).exitCode).toBe(0);
    expect(await sweep(agent.cni)).toMatchObject({ postponed: 1 });
    ipam.isMissing = false;
    expect(await sweep(agent.cni)).toMatchObject({ released: 1 });
    await nothingLeft();
  });

  it("leaves nothing to be tried for ever when the plugin refuses ADD and DEL alike, as for its configuration", async () => {
    const refusal = { exitCode: 1, stdout: '{"code":1,"msg":"incompatible CNI versions"}' };
    ipam.misbehaves.set("ADD", refusal).set("DEL", refusal);
    expect(parsed(await agent.call("ADD", { conf: HOST_LOCAL }))).toMatchObject({
      code: CNI_CODE.Delegate,
      msg: containing("failed ADD with code 1"),
    });
    expect(await agent.cni.records.list()).toEqual([]);
    expect((await agent.call("DEL", { conf: HOST_LOCAL })).exitCode).toBe(0);
    expect(await agent.cni.records.list()).toEqual([]);
    ipam.misbehaves.clear();
    expect((await agent.call("ADD", { conf: HOST_LOCAL })).exitCode).toBe(0);
  });

  it("is tried again when the plugin refuses to take back what it gave", async () => {
    await agent.call("ADD", { conf: HOST_LOCAL });
    ipam.misbehaves.set("DEL", { exitCode: 1, stdout: '{"code":11,"msg":"busy"}' });
    expect((await agent.call("DEL", { conf: HOST_LOCAL })).exitCode).toBe(0);
    expect(await sweep(agent.cni)).toMatchObject({ postponed: 1 });
    ipam.misbehaves.clear();
    expect(await sweep(agent.cni)).toMatchObject({ released: 1 });
    await nothingLeft();
  });

  it("is done by the sweep when the namespace has gone", async () => {
    await agent.call("ADD", { conf: HOST_LOCAL });
    machine.kernel.removeNetns("/run/netns/c1");
    expect(await sweep(agent.cni)).toMatchObject({ released: 1 });
    await nothingLeft();
  });

  it("is done by the next agent when one died while the plugin worked", async () => {
    ipam.misbehaves.set("ADD", "hang");
    void agent.call("ADD", { conf: HOST_LOCAL });
    await called("ADD");
    machine.kill(agent.executor);
    agent = machine.start();
    expect(await sweep(agent.cni)).toMatchObject({ released: 1 });
    await nothingLeft();
  });
});

describe("CHECK", () => {
  it("shows the plugin the answer that it gave, and passes its complaint on", async () => {
    const prevResult = parsed(await agent.call("ADD", { conf: HOST_LOCAL }));
    const conf = { ...HOST_LOCAL, prevResult };
    expect(await agent.call("CHECK", { conf })).toMatchObject({ exitCode: 0 });
    const shown = JSON.parse(ipam.executions[1]?.stdin ?? "") as { prevResult: unknown };
    expect(shown.prevResult).toMatchObject({ ips: [{ address: "10.9.0.2/24", gateway: "10.9.0.1" }] });
    ipam.misbehaves.set("CHECK", { exitCode: 1, stdout: '{"code":11,"msg":"not reserved"}' });
    expect(parsed(await agent.call("CHECK", { conf }))).toMatchObject({ code: 108, msg: containing("not reserved") });
  });
});

describe("GC and STATUS", () => {
  const conf = { ...HOST_LOCAL, cniVersion: "1.1.0", [VALID]: [] };

  it("GC is passed on after our own", async () => {
    await agent.call("ADD", { conf });
    expect(await agent.call("GC", { conf })).toMatchObject({ exitCode: 0 });
    expect(ipam.calls).toEqual(["host-local ADD", "host-local DEL", "host-local GC"]);
    await nothingLeft();
  });

  it.each([1, 4])("a plugin that answers code %d knows neither", async (code) => {
    const old = { exitCode: 1, stdout: JSON.stringify({ code, msg: "unknown CNI_COMMAND" }) };
    ipam.misbehaves.set("GC", old).set("STATUS", old);
    for (const command of ["GC", "STATUS"]) expect(await agent.call(command, { conf })).toMatchObject({ exitCode: 0 });
  });

  it.each([
    [51, CNI_CODE.NotAvailableAndDegraded],
    [50, CNI_CODE.NotAvailable],
    [999, CNI_CODE.NotAvailable],
  ])("STATUS: the plugin's code %d becomes %d", async (code, answered) => {
    ipam.misbehaves.set("STATUS", { exitCode: 1, stdout: JSON.stringify({ code, msg: "range is full" }) });
    expect(parsed(await agent.call("STATUS", { conf }))).toMatchObject({
      code: answered,
      msg: containing("range is full"),
    });
  });
});

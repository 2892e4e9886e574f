// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { formatIP, parseIP } from "../../net/ip.ts";
import { FakeMachine, type FakeProcess } from "../fake-cni.ts";
import { sweep } from "../reconcile.ts";

// Typed, since Vitest's matchers are any.
const containing = (words: string): unknown => expect.stringContaining(words);

const BRIDGE = { type: "bridge", bridge: "cni0", isGateway: true, mtu: "not ours", ipam: { type: "gingham-ipam" } };
const SEGMENT_HANDLE = "gingham-segment.10-244-0-64-26";

let machine: FakeMachine;
let agent: FakeProcess;
beforeEach(() => {
  machine = new FakeMachine();
  for (const name of ["c1", "c2", "c3"]) machine.kernel.addNetns(`/run/netns/${name}`);
  agent = machine.start();
});
afterEach(() => machine[Symbol.dispose]());

const parsed = (reply: { readonly stdout: string }) => JSON.parse(reply.stdout) as Record<string, unknown>;
const add = (containerID: string, conf: object = BRIDGE) =>
  agent.call("ADD", { containerID, netns: `/run/netns/${containerID}`, conf });
const heldBy = (handleID: string) =>
  machine.addresses.held.flatMap((held) => (held.handleID === handleID ? [formatIP(held.ip)] : []));

describe("ADD", () => {
  it("answers an address with its block's mask and gateway, and touches no link", async () => {
    expect(parsed(await add("c1"))).toEqual({
      cniVersion: "1.0.0",
      ips: [{ address: "10.244.0.66/26", gateway: "10.244.0.65" }],
      routes: [{ dst: "0.0.0.0/0", gw: "10.244.0.65" }],
      dns: {},
    });
    expect(machine.kernel.links).toEqual([]);
    expect([...agent.endpoints]).toEqual([]);
  });

  it("keeps the first address, the gateway and the last for the node, once", async () => {
    await add("c1");
    const first = machine.addresses.requests.length;
    expect(parsed(await add("c2"))).toMatchObject({ ips: [{ address: "10.244.0.67/26" }] });
    expect(heldBy(SEGMENT_HANDLE)).toEqual(["10.244.0.64", "10.244.0.65", "10.244.0.127"]);
    expect(machine.addresses.requests).toHaveLength(first + 1);
  });

  it("finds after a restart what was kept, and keeps again what somebody released", async () => {
    await add("c1");
    agent = machine.start();
    expect(parsed(await add("c2"))).toMatchObject({ ips: [{ address: "10.244.0.67/26" }] });
    await machine.addresses.releaseByHandle(SEGMENT_HANDLE);
    expect(parsed(await add("c3"))).toMatchObject({ ips: [{ address: "10.244.0.68/26" }] });
    expect(heldBy(SEGMENT_HANDLE)).toHaveLength(3);
  });

  it("gives calls that come together an address each", async () => {
    const replies = await Promise.all(["c1", "c2", "c3"].map((id) => add(id)));
    const ips = replies.map((reply) => (parsed(reply)["ips"] as { address: string }[])[0]?.address);
    expect(new Set(ips)).toEqual(new Set(["10.244.0.66/26", "10.244.0.67/26", "10.244.0.68/26"]));
    expect(heldBy(SEGMENT_HANDLE)).toHaveLength(3);
  });

  it("gives both families; of IPv6 the last address is one like any other", async () => {
    const ipam = { type: "calico-ipam", assign_ipv6: "true" };
    expect(parsed(await add("c1", { ...BRIDGE, ipam }))).toMatchObject({
      ips: [
        { address: "10.244.0.66/26", gateway: "10.244.0.65" },
        { address: "fd00:10:244::2/122", gateway: "fd00:10:244::1" },
      ],
      routes: [
        { dst: "0.0.0.0/0", gw: "10.244.0.65" },
        { dst: "::/0", gw: "fd00:10:244::1" },
      ],
    });
    expect(heldBy("gingham-segment.fd00-10-244---122")).toEqual(["fd00:10:244::", "fd00:10:244::1"]);
  });

  it("takes mask, gateway and routes of a segment that is there already", async () => {
    const ipam = { type: "gingham-ipam", subnet: "10.244.0.0/16", gateway: "10.244.0.64", routes: [] };
    expect(parsed(await add("c1", { ...BRIDGE, type: "macvlan", ipam }))).toMatchObject({
      ips: [{ address: "10.244.0.65/16", gateway: "10.244.0.64" }],
      routes: [],
    });
    expect(heldBy(SEGMENT_HANDLE)).toEqual(["10.244.0.64"]);
  });

  it("refuses an address outside of the segment, and leaves nothing", async () => {
    const ipam = { type: "gingham-ipam", ranges: [[{ subnet: "10.1.0.0/16" }]] };
    expect(parsed(await add("c1", { ...BRIDGE, ipam }))).toMatchObject({ code: 7, msg: containing("10.1.0.0/16") });
    expect(machine.addresses.held).toEqual([]);
    expect(await agent.cni.records.list()).toEqual([]);
  });

  it("refuses a block whose gateway's address a pod has", async () => {
    const pod = { handleID: "k8s-pod-network.other", attributes: {}, families: [4] as const };
    await machine.addresses.assign({ ...pod, addresses: [parseIP("10.244.0.65")] });
    expect(parsed(await add("c1"))).toMatchObject({ code: 101, msg: containing("a pool of its own") });
    expect(heldBy("k8s-pod-network.c1")).toEqual([]);
    expect(await agent.cni.records.list()).toEqual([]);
  });

  it.each([
    [
      "0.2.0",
      { ip4: { ip: "10.244.0.66/26", gateway: "10.244.0.65", routes: [{ dst: "0.0.0.0/0", gw: "10.244.0.65" }] } },
    ],
    ["0.4.0", { ips: [{ version: "4", address: "10.244.0.66/26", gateway: "10.244.0.65" }] }],
  ] as const)("answers in %s", async (cniVersion, answer) => {
    expect(parsed(await add("c1", { ...BRIDGE, cniVersion }))).toMatchObject({ cniVersion, ...answer });
  });

  it("answers a repeated call from the record; a new namespace gets a new address", async () => {
    const first = await add("c1");
    expect(await add("c1")).toEqual(first);
    machine.kernel.removeNetns("/run/netns/c1");
    machine.kernel.addNetns("/run/netns/c1");
    expect((await add("c1")).exitCode).toBe(0);
    expect(heldBy("k8s-pod-network.c1")).toHaveLength(1);
  });
});

describe("the end of an attachment", () => {
  const nothingHeld = async () => {
    expect(heldBy("k8s-pod-network.c1")).toEqual([]);
    expect(await agent.cni.records.list()).toEqual([]);
  };

  it("DEL gives the address back, and leaves what is kept for the node", async () => {
    await add("c1");
    expect(await agent.call("DEL", { conf: BRIDGE })).toMatchObject({ exitCode: 0, stdout: "" });
    await nothingHeld();
    expect(heldBy(SEGMENT_HANDLE)).toHaveLength(3);
  });

  it("DEL without a record releases by the handle", async () => {
    await add("c1");
    await agent.cni.records.remove({ network: "k8s-pod-network", containerID: "c1", ifName: "eth0" });
    expect((await agent.call("DEL", { conf: BRIDGE, netns: "" })).exitCode).toBe(0);
    await nothingHeld();
  });

  it("the sweep frees it when its namespace is gone, and leaves it while that lives", async () => {
    await add("c1");
    expect(await sweep(agent.cni)).toMatchObject({ live: 1, released: 0 });
    expect([...agent.endpoints]).toEqual([]);
    machine.kernel.removeNetns("/run/netns/c1");
    expect(await sweep(agent.cni)).toMatchObject({ live: 0, released: 1 });
    await nothingHeld();
  });

  it("GC frees what is not listed", async () => {
    await add("c1");
    const conf = { ...BRIDGE, cniVersion: "1.1.0", "cni.dev/valid-attachments": [] };
    // What was attached after the list was made stays.
    await machine.clock.advance(1000);
    expect((await agent.call("GC", { conf })).exitCode).toBe(0);
    await nothingHeld();
  });
});

describe("CHECK", () => {
  it("compares the answer and the datastore, and leaves the kernel to the plugin that made it", async () => {
    const ours = parsed(await add("c1"));
    const prevResult = { ...ours, interfaces: [{ name: "cni0" }, { name: "eth0", sandbox: "/run/netns/c1" }] };
    const conf = { ...BRIDGE, prevResult };
    expect(await agent.call("CHECK", { conf })).toMatchObject({ exitCode: 0 });
    const other = { ...BRIDGE, prevResult: { ...prevResult, ips: [{ address: "10.244.0.99/26" }] } };
    expect(parsed(await agent.call("CHECK", { conf: other }))).toMatchObject({
      code: 107,
      msg: containing("10.244.0.66/26"),
    });
    await machine.addresses.releaseByHandle("k8s-pod-network.c1");
    expect(parsed(await agent.call("CHECK", { conf }))).toMatchObject({ code: 107, msg: containing("have") });
  });
});

it("STATUS asks our IPAM for what the calling plugin wants", async () => {
  expect(await agent.call("STATUS", { conf: { ...BRIDGE, cniVersion: "1.1.0" } })).toMatchObject({ exitCode: 0 });
});

// SPDX-License-Identifier: Apache-2.0
import { rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { blockOf, type Holder, podAttributes } from "../../ipam/gc/fake-cluster.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import type { NodeBlocks } from "../collect/node-blocks.ts";
import { FakeMachine, type FakeProcess } from "../fake-cni.ts";
import { hostIfaceOf } from "../iface-name.ts";
import { announce, sweep } from "../reconcile.ts";
import type { AttachmentID } from "../types.ts";
import { PodAdopter } from "./adopter.ts";

const BLOCK = "10.244.0.64/26";
const SANDBOX = "1152aa";
const ID: AttachmentID = { network: "k8s-pod-network", containerID: SANDBOX, ifName: "eth0" };
const WEB = podAttributes("node-a", "web-0");
const IFACE = hostIfaceOf({ ...ID, nodeName: "node-a", pod: { namespace: "default", name: "web-0" } });

let machine: FakeMachine;
let agent: FakeProcess;
let adopter: PodAdopter;
/** What the node's block holds, in the order of its addresses, and another node's. */
let held: Holder[];
let borrowed: Holder[];
let reads: string[];
const signal = new AbortController().signal;

beforeEach(() => {
  machine = new FakeMachine();
  agent = machine.start();
  held = [{ handleID: `k8s-pod-network.${SANDBOX}`, attributes: WEB }];
  borrowed = [];
  reads = [];
  adopter = new PodAdopter(survey);
});
afterEach(() => machine[Symbol.dispose]());

const survey = {
  podLinks: async () =>
    machine.kernel.links.map(({ hostIfIndex, hostIface }) => ({ ifIndex: hostIfIndex, name: hostIface })),
  namespaces: async () => ["/run/netns/calico", "/run/netns/other"],
};
const blocks: Pick<NodeBlocks, "isReady" | "read"> = {
  isReady: async () => true,
  async *read(which) {
    reads.push(which);
    yield blockOf(BLOCK, "node-a", held);
    if (which === "all") yield blockOf("10.244.9.0/26", "node-b", borrowed);
  },
};

/** As Calico's plugin makes a pod: link by the rule of names, address, route; no record. */
function wireByCalico(ip = "10.244.0.64", hostIface = IFACE, netns = "/run/netns/calico"): void {
  if (machine.kernel.find(netns) === undefined) machine.kernel.addNetns(netns);
  machine.kernel.addLink({
    netns,
    contIface: "eth0",
    hostIface,
    ips: [parseIP(ip)],
    mtuBytes: 1450,
    routes: [parseCIDR("0.0.0.0/0")],
    allowIPForwarding: false,
  });
}

function isHeldBy(attributes: Readonly<Record<string, string>>, handleID = `k8s-pod-network.${SANDBOX}`): void {
  held = [{ handleID, attributes }];
}

async function look(): Promise<number> {
  return await adopter.look(agent.cni, blocks, signal);
}

describe("PodAdopter", () => {
  test("writes the record of a pod that Calico's plugin made, and has its route wanted", async () => {
    wireByCalico();
    expect(await look()).toBe(1);
    const stored = await agent.cni.records.read(ID);
    expect(stored).toMatchObject({
      kind: "record",
      record: {
        state: "whole",
        handleID: `k8s-pod-network.${SANDBOX}`,
        pod: { namespace: "default", name: "web-0" },
        bootID: "boot-1",
        hostIface: IFACE,
        hostIfIndex: 10,
        netns: { path: "/run/netns/calico" },
        allocations: [{ ip: parseIP("10.244.0.64"), handleID: `k8s-pod-network.${SANDBOX}` }],
        result: { container: { name: "eth0", mtuBytes: 1450 }, routes: [] },
      },
    });
    expect(agent.told).toEqual([`up k8s-pod-network/${SANDBOX}:eth0 ${IFACE} made`]);
    expect(adopter.findings()).toEqual([]);
  });

  test("reads nothing while all links have records", async () => {
    wireByCalico();
    await look();
    reads.length = 0;
    expect(await look()).toBe(0);
    expect(reads).toEqual([]);
  });

  test("its DEL removes the link and gives the address back, and a restarted agent announces it", async () => {
    wireByCalico();
    await look();
    const next = machine.start();
    expect(await announce(next.cni)).toBe(1);
    expect(await next.call("DEL", { containerID: SANDBOX, netns: "" })).toMatchObject({ exitCode: 0 });
    expect(machine.kernel.links).toEqual([]);
    expect((await next.cni.records.read(ID)).kind).toBe("absent");
  });

  test("a pod whose namespace ends without a DEL is swept", async () => {
    wireByCalico();
    await look();
    machine.kernel.removeNetns("/run/netns/calico");
    expect(await sweep(agent.cni)).toMatchObject({ released: 1, live: 0 });
  });

  test("finds a borrowed address in another node's block", async () => {
    borrowed = held;
    held = [];
    wireByCalico("10.244.9.0");
    expect(await look()).toBe(1);
    expect(reads).toEqual(["own", "all"]);
  });

  test("takes both addresses of a pod with two families, out of two blocks", async () => {
    const ips = [parseIP("10.244.0.64"), parseIP("fd00:10:244::")];
    machine.kernel.addNetns("/run/netns/calico");
    const routes = [parseCIDR("0.0.0.0/0"), parseCIDR("::/0")];
    const link = { contIface: "eth0", hostIface: IFACE, mtuBytes: 1450, allowIPForwarding: false };
    machine.kernel.addLink({ netns: "/run/netns/calico", ips, routes, ...link });
    const both: typeof blocks = {
      ...blocks,
      async *read() {
        yield blockOf(BLOCK, "node-a", held);
        yield blockOf("fd00:10:244::/122", "node-a", held);
      },
    };
    expect(await adopter.look(agent.cni, both, signal)).toBe(1);
    expect(await agent.cni.records.read(ID)).toMatchObject({
      record: { allocations: [{ ip: ips[0] }, { ip: ips[1] }] },
    });
  });

  test("of two sandboxes of a pod takes the one that the link leads to", async () => {
    held.unshift({ handleID: "k8s-pod-network.0ld", attributes: WEB });
    wireByCalico("10.244.0.65");
    expect(await look()).toBe(1);
    expect((await agent.cni.records.read({ ...ID, containerID: "0ld" })).kind).toBe("absent");
  });

  test.each([
    ["another node's address", () => isHeldBy(podAttributes("node-b", "web-0")), "no address of this node"],
    ["another pod's address", () => isHeldBy(podAttributes("node-a", "db-0")), "no address of this node"],
    [
      "a virtual machine's",
      () => isHeldBy({ ...WEB, "vmi-name": "web-0" }, "k8s-pod-network.vmi.default.web-0"),
      "no address of this node",
    ],
    ["another address in the namespace", () => wireByCalico("10.244.0.65"), "no namespace under /run/netns"],
    [
      "a link that is down",
      () =>
        machine.kernel.tamper(IFACE, (facts) => ({
          ...facts,
          ...(facts.hostLink && { hostLink: { ...facts.hostLink, isUp: false } }),
        })),
      "is down",
    ],
    [
      "no route yet",
      () => machine.kernel.tamper(IFACE, (facts) => ({ ...facts, hostRoutes: [] })),
      "no route to 10.244.0.64",
    ],
    [
      "another link's end",
      () =>
        machine.kernel.tamper(IFACE, (facts) => ({
          ...facts,
          ...(facts.hostLink && { hostLink: { ...facts.hostLink, peerIfIndex: 99 } }),
        })),
      "not the other end",
    ],
  ])("leaves %s alone, and says so after the second look", async (_what, change, reason) => {
    wireByCalico();
    change();
    expect(await look()).toBe(0);
    expect(adopter.findings()).toEqual([]);
    await machine.clock.advance(20_000);
    expect(await look()).toBe(0);
    expect(adopter.findings()).toMatchObject([{ code: "PodNotAdopted", subject: IFACE }]);
    expect(adopter.findings()[0]?.message).toContain(reason);
    expect((await agent.cni.records.read(ID)).kind).toBe("absent");
    machine.kernel.removeNetns("/run/netns/calico");
    await look();
    expect(adopter.findings()).toEqual([]);
  });

  test("one pod that cannot be looked at keeps no other from being adopted", async () => {
    const second = hostIfaceOf({ ...ID, nodeName: "node-a", pod: { namespace: "default", name: "db-0" } });
    held.push({ handleID: "k8s-pod-network.2222", attributes: podAttributes("node-a", "db-0") });
    // The first of the links answers; the look begins with the one that does not.
    wireByCalico("10.244.0.65", second, "/run/netns/other");
    wireByCalico();
    const spoiled: typeof agent.cni = {
      ...agent.cni,
      records: {
        ...agent.cni.records,
        read: async (id) => {
          if (id.containerID === "2222") throw new Error("EIO");
          return await agent.cni.records.read(id);
        },
        create: (...args) => agent.cni.records.create(...args),
        list: () => agent.cni.records.list(),
      },
    };
    expect(await adopter.look(spoiled, blocks, signal)).toBe(1);
    expect((await agent.cni.records.read(ID)).kind).toBe("record");
    await machine.clock.advance(20_000);
    await adopter.look(spoiled, blocks, signal);
    expect(adopter.findings()).toMatchObject([{ subject: second }]);
    expect(adopter.findings()[0]?.message).toContain("EIO");
  });

  test("looks at a stranger ever more seldom", async () => {
    held = [];
    wireByCalico();
    for (let minute = 0; minute < 30; minute++) {
      for (let third = 0; third < 3; third++) {
        await look();
        await machine.clock.advance(20_000);
      }
    }
    expect(reads.filter((which) => which === "all").length).toBeLessThan(12);
  });

  test("writes the record of a pod of ours anew that somebody deleted under the running agent", async () => {
    wireByCalico();
    await look();
    rmSync(join(machine.stateDir, "attachments"), { recursive: true });
    expect(await look()).toBe(1);
    expect(await agent.cni.records.read(ID)).toMatchObject({ kind: "record", record: { state: "whole" } });
    expect(agent.told).toEqual([`up k8s-pod-network/${SANDBOX}:eth0 ${IFACE} made`]);
    expect(agent.logged.at(-1)).toMatchObject({ message: "Record of a running pod was lost, and is written anew" });
    expect(await look()).toBe(0);
  });

  test.each([1, 0])("names the attachment that has a link without a record, with %i candidates", async (candidates) => {
    held = held.slice(0, candidates);
    wireByCalico();
    await agent.cni.endpoints.up({ key: "net/other:eth0", hostIface: IFACE, hostIfIndex: 10, ips: [] });
    await look();
    await machine.clock.advance(20_000);
    expect(await look()).toBe(0);
    expect(adopter.findings()[0]?.message).toContain("attachment net/other:eth0 has this link");
  });

  test("leaves what an ADD of ours is making", async () => {
    machine.kernel.addNetns("/run/netns/c1");
    await agent.call("ADD");
    expect(await look()).toBe(0);
    expect(reads).toEqual([]);
  });

  test("does nothing while the datastore is locked", async () => {
    wireByCalico();
    expect(await adopter.look(agent.cni, { ...blocks, isReady: async () => false }, signal)).toBe(0);
    expect(await look()).toBe(1);
  });
});

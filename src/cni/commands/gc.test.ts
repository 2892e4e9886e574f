// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { IPAMError } from "../../ipam/errors.ts";
import { blockOf, podAttributes } from "../../ipam/gc/fake-cluster.ts";
import type { Allocation } from "../../ipam/types.ts";
import { formatIP } from "../../net/ip.ts";
import { FakeMachine, type FakeProcess } from "../fake-cni.ts";
import type { AttachmentID } from "../types.ts";

const NETWORK = "k8s-pod-network";
const VALID = "cni.dev/valid-attachments";

let machine: FakeMachine;
let agent: FakeProcess;
beforeEach(() => {
  machine = new FakeMachine();
  agent = machine.start();
});
afterEach(() => machine[Symbol.dispose]());

const podArgs = (pod: string): string => `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod}`;

async function attach(containerID: string, conf: object = {}, ifName = "eth0"): Promise<void> {
  const netns = `/run/netns/${containerID}`;
  if (machine.kernel.find(netns) === undefined) machine.kernel.addNetns(netns);
  const { exitCode, stdout } = await agent.call("ADD", {
    containerID,
    ifName,
    netns,
    args: podArgs(containerID),
    conf,
  });
  expect(exitCode, stdout).toBe(0);
}

/** The error of GC, as `code message`; empty text when all went well. */
async function gc(valid: unknown, name = NETWORK, signal?: AbortSignal): Promise<string> {
  const conf = { cniVersion: "1.1.0", name, ...(valid !== undefined && { [VALID]: valid }) };
  const { stdout, exitCode } = await agent.call("GC", { conf, ...(signal && { signal }) });
  if (exitCode === 0) return stdout;
  const { code, msg } = JSON.parse(stdout) as { code: number; msg: string };
  return `${code} ${msg}`;
}

const entry = (containerID: string, ifname = "eth0"): object => ({ containerID, ifname });
const handles = (): string[] => machine.addresses.held.map(({ handleID }) => handleID).sort();
const recorded = async (): Promise<string[]> =>
  (await agent.cni.records.list()).map((id) => `${id.network}/${id.containerID}:${id.ifName}`).sort();

describe("GC", () => {
  it("frees what is not listed, in kernel, files and datastore, and leaves the rest", async () => {
    for (const id of ["a", "b", "c"]) await attach(id);
    expect(await gc([entry("b")])).toBe("");
    expect(machine.kernel.links.map(({ contIface }) => contIface)).toEqual(["eth0"]);
    expect(handles()).toEqual([`${NETWORK}.b`]);
    expect(await recorded()).toEqual([`${NETWORK}/b:eth0`]);
    expect([...agent.endpoints.keys()]).toEqual([`${NETWORK}/b:eth0`]);
    expect(await gc([entry("b")])).toBe("");
    expect(await gc([])).toBe("");
    expect(await recorded()).toEqual([]);
    expect(machine.kernel.links).toEqual([]);
    expect(machine.addresses.held).toEqual([]);
  });

  it("tells the interfaces of one container apart", async () => {
    await attach("a");
    await attach("a", {}, "net1");
    expect(await gc([entry("a", "net1")])).toBe("");
    expect(await recorded()).toEqual([`${NETWORK}/a:net1`]);
  });

  it("does not touch other networks", async () => {
    await attach("a");
    await attach("b", { name: "other" });
    expect(await gc([])).toBe("");
    expect(await recorded()).toEqual(["other/b:eth0"]);
    expect(handles()).toEqual(["other.b"]);
  });

  it.each([
    [undefined, "cni.dev/valid-attachments is missing"],
    [null, "cni.dev/valid-attachments is missing"],
    ["a", 'cni.dev/valid-attachments is "a"'],
    [{}, "cni.dev/valid-attachments is"],
    [[{ containerID: "a" }], "cni.dev/valid-attachments[0].ifname is missing"],
    [[{ ifname: "eth0" }], "cni.dev/valid-attachments[0].containerID is missing"],
    [["a"], "cni.dev/valid-attachments[0]"],
  ])("refuses the list %j, and frees nothing", async (valid, words) => {
    await attach("a");
    const answer = await gc(valid);
    expect(answer).toMatch(/^7 /);
    expect(answer).toContain(words);
    expect(await recorded()).toEqual([`${NETWORK}/a:eth0`]);
  });

  it("refuses a configuration of another node, and frees nothing", async () => {
    await attach("a");
    const conf = { cniVersion: "1.1.0", nodename: "node-b", [VALID]: [] };
    expect(JSON.parse((await agent.call("GC", { conf })).stdout)).toMatchObject({ code: 7 });
    expect(await recorded()).toEqual([`${NETWORK}/a:eth0`]);
  });

  it("leaves what another call works on, in this process or another", async () => {
    await attach("a");
    await attach("b");
    const id: AttachmentID = { network: NETWORK, containerID: "b", ifName: "eth0" };
    const stored = await agent.cni.records.read(id);
    if (stored.kind !== "record" || stored.record.state !== "whole") throw new Error("no record");
    const { hostIfIndex: _i, allocations: _a, result: _r, ...shared } = stored.record;
    const { executor } = machine.start();
    await agent.cni.records.append(id, { ...shared, state: "intent", executor });
    using _turn = await agent.cni.locks.acquire(`${NETWORK}/a:eth0`);
    expect(await gc([])).toBe("");
    expect(await recorded()).toEqual([`${NETWORK}/a:eth0`, `${NETWORK}/b:eth0`]);
    expect(machine.kernel.links).toHaveLength(2);
    machine.kill(executor);
    expect(await gc([])).toBe("");
    expect(await recorded()).toEqual([`${NETWORK}/a:eth0`]);
  });

  it("leaves what was attached after it began", async () => {
    await attach("a");
    const { records } = agent.cni;
    const list = async (): Promise<readonly AttachmentID[]> => {
      await machine.clock.advance(1);
      await attach("late");
      return records.list();
    };
    Object.assign(agent.cni, { records: overriding(records, { list }) });
    expect(await gc([])).toBe("");
    Object.assign(agent.cni, { records });
    expect(await recorded()).toEqual([`${NETWORK}/late:eth0`]);
  });

  it("goes on after a failure, and sums the failures up", async () => {
    for (const id of ["a", "b", "c"]) await attach(id);
    const { wiring, records } = agent.cni;
    const bad = machine.kernel.links[1]?.hostIface;
    Object.assign(agent.cni, {
      wiring: overriding(wiring, {
        unwire: (link) => (link.hostIface === bad ? Promise.reject(new Error("EBUSY")) : wiring.unwire(link)),
      }),
      records: overriding(records, {
        read: async (id) => (id.containerID === "c" ? { kind: "broken", reason: "no JSON" } : records.read(id)),
      }),
    });
    const answer = await gc([]);
    expect(answer).toContain("has looked at 3 attachments, and failed for 2");
    expect(answer).toContain(`attachment ${NETWORK}/b:eth0: EBUSY`);
    expect(answer).toContain(`attachment ${NETWORK}/c:eth0: Record of attachment`);
    expect(handles()).toEqual([`${NETWORK}.b`, `${NETWORK}.c`]);
    Object.assign(agent.cni, { wiring, records });
    expect(await gc([])).toBe("");
    expect(machine.addresses.held).toEqual([]);
  });

  it("takes links away while the datastore does not answer, and the sweep gives the addresses back", async () => {
    await attach("a");
    machine.addresses.away = new IPAMError("Datastore", "API server is down");
    expect(await gc([])).toBe("");
    expect(machine.kernel.links).toEqual([]);
    expect(await agent.cni.records.read({ network: NETWORK, containerID: "a", ifName: "eth0" })).toMatchObject({
      record: { state: "releasing" },
    });
    machine.addresses.away = undefined;
    expect(await gc([])).toBe("");
    expect(machine.addresses.held).toEqual([]);
  });

  it("stops when the caller hangs up", async () => {
    for (const id of ["a", "b"]) await attach(id);
    expect(await gc([], NETWORK, AbortSignal.abort(new Error("hung up")))).toContain("hung up");
    expect(await recorded()).toHaveLength(2);
  });
});

describe("GC of addresses without a record", () => {
  const released: string[] = [];
  let blocks: readonly IPAMBlock[];
  let routed: Set<string>;
  /** Runs while the blocks are read. */
  let meanwhile: () => Promise<unknown>;

  beforeEach(() => {
    [blocks, routed, meanwhile] = [[], new Set(), async () => {}];
    released.length = 0;
    machine.addresses.release = async (allocations: readonly Allocation[]) => {
      released.push(...allocations.map(({ ip, handleID }) => `${formatIP(ip)} ${handleID}`));
    };
    Object.assign(agent.cni, {
      holders: { ...agent.cni.holders, routed: async () => routed },
      nodeBlocks: {
        isReady: async () => true,
        publishInUse: async () => {},
        handles: async function* () {},
        unreadable: () => new Set(),
        read: async function* () {
          yield* blocks;
          await meanwhile();
        },
      },
    });
  });

  const holder = (handleID: string, node = "node-a"): Parameters<typeof blockOf>[2] => [
    { handleID, attributes: podAttributes(node, "web-0") },
  ];
  const holds = (handleID: string, node?: string): void => {
    blocks = [blockOf("10.244.9.64/26", "node-a", holder(handleID, node))];
  };

  it("frees them, although a pod of that name runs: the runtime says that this container does not", async () => {
    holds(`${NETWORK}.lost`);
    expect(await gc([])).toBe("");
    expect(released).toEqual([`10.244.9.64 ${NETWORK}.lost`]);
  });

  it.each<[string, () => unknown]>([
    ["the container is listed", () => holds(`${NETWORK}.listed`)],
    ["another network has it", () => holds("other.lost")],
    ["a network whose name begins alike may have it", () => holds(`${NETWORK}.b.lost`)],
    ["another node has it", () => holds(`${NETWORK}.lost`, "node-b")],
    ["the kernel has a route to it", () => [holds(`${NETWORK}.lost`), routed.add("10.244.9.64")]],
    [
      "an ADD records it meanwhile",
      () => {
        holds(`${NETWORK}.late`);
        meanwhile = () => attach("late");
      },
    ],
    ["somebody works on it", () => [holds(`${NETWORK}.lost`), void agent.cni.locks.acquire(`${NETWORK}/lost:eth0`)]],
  ])("leaves one when %s", async (_what, prepare) => {
    prepare();
    expect(await gc([entry("listed")])).toBe("");
    expect(released).toEqual([]);
  });

  it("says that it could not look", async () => {
    meanwhile = () => Promise.reject(new IPAMError("Datastore", "API server is down"));
    expect(await gc([])).toMatch(/^11 .*addresses without a record: API server is down/);
  });
});

/** A port with some methods of its own. */
function overriding<T extends object>(port: T, methods: Partial<T>): T {
  return new Proxy(port, { get: (target, key): unknown => Reflect.get(key in methods ? methods : target, key) });
}

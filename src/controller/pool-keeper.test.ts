// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from "vitest";
import { CLUSTER_INFORMATIONS } from "../crds/cluster-information.ts";
import type { Event } from "../crds/core.ts";
import { ALLOCATABLE, HEALTHY, IP_POOLS, type IPPool, type IPPoolCondition } from "../crds/ip-pool.ts";
import { IPAM_BLOCKS } from "../crds/ipam-block.ts";
import { DEFAULT_IPAM_CONFIG } from "../crds/ipam-config.ts";
import { blockOf } from "../ipam/gc/fake-cluster.ts";
import { ConflictError, kubeErrorOf } from "../kube/errors.ts";
import { MemoryClient } from "../kube/memory-client.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { poolObject } from "./fake-pools.ts";
import { KubePoolSource } from "./kube-pool-source.ts";
import { KubeSource } from "./kube-source.ts";
import { createControllerMetrics } from "./metrics.ts";
import { PoolKeeper } from "./pool-keeper.ts";
import { createPoolReporter } from "./pool-reporter.ts";
import type { PoolReporter, PoolSource } from "./ports.ts";

const { signal } = new AbortController();
const target = { verb: "update", resource: "ippools", name: "a" };

let clock: FakeClock;
let client: MemoryClient;
let log: string[];
let events: Event[];
let metrics: ReturnType<typeof createControllerMetrics>;

function keeperOf({ isDryRun = false } = {}): PoolKeeper {
  const options = { client, clock, random: () => 0, onError: (error: unknown) => void log.push(String(error)) };
  const write = (_: object, message: string): void => void log.push(message);
  const reporter = createPoolReporter({
    log: { info: write, warn: write, error: write },
    metrics,
    emit: async (event) => void events.push(event),
    clock,
    instance: "test",
  });
  return new PoolKeeper({ source: new KubePoolSource(options, new KubeSource(options)), reporter, clock, isDryRun });
}

async function conditionOf(name: string, type: string): Promise<IPPoolCondition | undefined> {
  const { status } = await client.get(IP_POOLS, name);
  return status?.conditions?.find((condition) => condition.type === type);
}

const writes = (): number => client.calls.filter(({ subresource }) => subresource === "status").length;
const bad = poolObject("a", { cidr: "10.0.0.0/16", nodeSelector: "zone = 'a'" });

beforeEach(() => {
  clock = new FakeClock(Date.parse("2026-08-22T10:40:00Z"));
  client = new MemoryClient({ clock });
  [log, events, metrics] = [[], [], createControllerMetrics()];
});

describe("PoolKeeper", () => {
  it("writes what is wrong once, says so in log, metric and Event, and takes it back when it is right", async () => {
    await client.create(IP_POOLS, bad);
    const keeper = keeperOf();
    expect([await keeper.pass(signal), await keeper.pass(signal), writes()]).toEqual([true, true, 1]);
    expect(await conditionOf("a", HEALTHY)).toMatchObject({ status: "False", reason: "InvalidSelector" });
    expect(await conditionOf("a", ALLOCATABLE)).toMatchObject({ status: "True", reason: "OK" });
    expect(await metrics.text()).toContain('gingham_ippool_problems{ippool="a",reason="InvalidSelector"} 1');
    expect(log.filter((line) => line.startsWith("IPPool a: nodeSelector cannot be read"))).toHaveLength(1);

    const pool = await client.get(IP_POOLS, "a");
    await client.update(IP_POOLS, { ...pool, spec: { ...pool.spec, nodeSelector: "zone == 'a'" } });
    await clock.advance(60_000);
    await keeper.pass(signal);
    expect(await conditionOf("a", HEALTHY)).toEqual({
      type: HEALTHY,
      status: "True",
      reason: "OK",
      message: "",
      lastTransitionTime: "2026-08-22T10:41:00Z",
    });
    const { uid } = pool.metadata;
    expect(
      events.map(({ type, reason, involvedObject }) => [type, reason, involvedObject.name, involvedObject.uid]),
    ).toEqual([
      ["Warning", "InvalidSelector", "a", uid],
      ["Normal", "Healthy", "a", uid],
    ]);
    expect(await metrics.text()).not.toContain("gingham_ippool_problems{");
  });

  it("leaves conditions and status fields of others alone, and the spec", async () => {
    const foreign = { type: "example.org/Seen", status: "True", lastTransitionTime: "2026-01-01T00:00:00Z" };
    const before = { ...bad, status: { conditions: [foreign], phase: "new" } };
    client.seed(IP_POOLS, before);
    await keeperOf().pass(signal);
    const after: IPPool = await client.get(IP_POOLS, "a");
    expect(after.spec).toEqual(bad.spec);
    expect(after.status).toMatchObject({ phase: "new" });
    expect(after.status?.conditions?.[0]).toEqual(foreign);
    expect(after.status?.conditions).toHaveLength(3);
  });

  it("judges anew after a conflict", async () => {
    await client.create(IP_POOLS, bad);
    const keeper = keeperOf();
    client.onCall = ({ subresource }) =>
      subresource === "status"
        ? { kind: "fail", error: new ConflictError(target, { status: 409, message: "x" }) }
        : undefined;
    expect(await keeper.pass(signal)).toBe(false);
    expect(events).toEqual([]);
    client.onCall = undefined;
    const pool = await client.get(IP_POOLS, "a");
    await client.update(IP_POOLS, { ...pool, spec: { ...pool.spec, nodeSelector: "all()" } });
    expect(await keeper.pass(signal)).toBe(true);
    expect(await conditionOf("a", HEALTHY)).toMatchObject({ status: "True" });
  });

  it("notices a kind without status, says so once, and goes on judging", async () => {
    await client.create(IP_POOLS, bad);
    const keeper = keeperOf();
    client.onCall = ({ subresource }) =>
      subresource === "status"
        ? { kind: "fail", error: kubeErrorOf(target, { status: 404, message: "no such path" }) }
        : undefined;
    await keeper.pass(signal);
    await keeper.pass(signal);
    expect(writes()).toBe(1);
    expect(log.filter((line) => line.includes("keeps no conditions"))).toHaveLength(1);
    expect(await metrics.text()).toContain("gingham_ippool_problems{");
  });

  it("tries again soon when a write fails, and goes on with the other pools", async () => {
    await client.create(IP_POOLS, bad);
    await client.create(IP_POOLS, poolObject("b", { cidr: "10.1.0.0/16" }));
    client.onCall = ({ subresource, name }) =>
      subresource === "status" && name === "a"
        ? { kind: "fail", error: kubeErrorOf(target, { status: 403, message: "no" }) }
        : undefined;
    expect(await keeperOf().pass(signal)).toBe(false);
    expect(log.join()).toContain("Cannot write the conditions of IPPool a");
    expect(await conditionOf("b", HEALTHY)).toMatchObject({ status: "True" });
  });

  it("tells once of the blocks that a deleted pool left behind", async () => {
    await client.create(IP_POOLS, poolObject("a", { cidr: "10.0.0.0/16" }));
    const holder = { handleID: "net.c1", attributes: { node: "node-a" } };
    const block = blockOf("10.0.0.0/26", "node-a", [holder]);
    await client.create(IPAM_BLOCKS, { ...block, metadata: { name: block.metadata.name } });
    const keeper = keeperOf();
    await keeper.pass(signal);
    await client.delete(IP_POOLS, "a");
    keeper.nudge("blocks");
    await keeper.pass(signal);
    await keeper.pass(signal);
    expect(events.map(({ reason, involvedObject, message }) => [reason, involvedObject.name, message])).toEqual([
      [
        "OrphanedBlocks",
        "a",
        expect.stringContaining("IPPool a is gone, and no other has the blocks 10.0.0.0/26 (1 addr"),
      ],
    ]);
    expect(await metrics.text()).toContain("gingham_ipam_orphaned_blocks 1");
  });

  it("tells of blocks whose pool nobody has seen, as an Event of IPAMConfig", async () => {
    const block = blockOf("10.0.0.0/26", "node-a", [{ handleID: "net.c1", attributes: { node: "node-a" } }]);
    await client.create(IPAM_BLOCKS, { ...block, metadata: { name: block.metadata.name } });
    // An address that only cools down is nobody's.
    const cooling = blockOf("10.0.0.64/26", "node-a", [{ handleID: "net.c2", attributes: { node: "node-a" } }]);
    const spec = { ...cooling.spec, attributes: [{ releasedAt: "2026-08-22T10:39:50Z" }] };
    await client.create(IPAM_BLOCKS, { ...cooling, metadata: { name: cooling.metadata.name }, spec });
    await keeperOf().pass(signal);
    expect(events.map(({ involvedObject, message }) => [involvedObject.kind, message])).toEqual([
      ["IPAMConfig", expect.stringContaining("No IPPool has the blocks 10.0.0.0/26 (1 addr")],
    ]);
  });

  it("writes nothing in a dry run, nor while the datastore is locked", async () => {
    await client.create(IP_POOLS, bad);
    expect(await keeperOf({ isDryRun: true }).pass(signal)).toBe(true);
    expect(log.join()).toContain("nodeSelector cannot be read");
    await client.create(CLUSTER_INFORMATIONS, {
      apiVersion: "crd.projectcalico.org/v1",
      kind: "ClusterInformation",
      metadata: { name: "default" },
      spec: { datastoreReady: false },
    });
    expect(await keeperOf().pass(signal)).toBe(true);
    expect([writes(), log.join()]).toEqual([0, expect.stringContaining("Pools are not judged")]);
  });

  it("looks again soon after a nudge, and every five minutes otherwise", async () => {
    const stop = new AbortController();
    let looks = 0;
    const facts = { datastoreReady: false, pools: [], config: DEFAULT_IPAM_CONFIG, nodes: [], reserved: [] };
    const source: PoolSource = {
      synced: Promise.resolve(),
      blockUses: async () => [],
      poolFacts: async () => {
        looks++;
        return facts;
      },
      writeConditions: async () => "ok",
    };
    const reporter = { skipped: () => {} } as unknown as PoolReporter; // nothing else is told of a locked datastore
    const keeper = new PoolKeeper({ source, reporter, clock, isDryRun: false });
    const running = keeper.run(stop.signal);
    await clock.advance(200_000);
    expect(looks).toBe(1);
    keeper.nudge("others");
    keeper.nudge("blocks");
    await clock.advance(2000);
    expect(looks).toBe(2);
    await clock.advance(302_000);
    expect(looks).toBe(3);
    stop.abort();
    await clock.advance(0);
    await running;
  });
});

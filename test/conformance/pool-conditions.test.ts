// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { EVENT_NAMESPACE } from "../../src/controller/event.ts";
import { KubePoolSource } from "../../src/controller/kube-pool-source.ts";
import { KubeSource } from "../../src/controller/kube-source.ts";
import { createControllerMetrics } from "../../src/controller/metrics.ts";
import { PoolKeeper } from "../../src/controller/pool-keeper.ts";
import { createPoolReporter } from "../../src/controller/pool-reporter.ts";
import { EVENTS } from "../../src/crds/core.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { IPAM_BLOCKS } from "../../src/crds/ipam-block.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import { createAllocator } from "../../src/ipam/allocator/allocator.ts";
import { KubeStore, listedObjects } from "../../src/ipam/kube-store.ts";
import { sourcesOf } from "../../src/ipam/sources.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { systemClock as clock } from "../../src/lib/system-clock.ts";
import { type Bench, startBench } from "./apiserver-support.ts";

const POOLS_CRD = "ippools.crd.projectcalico.org";
const containing = (words: string): unknown => expect.stringContaining(words);
const patience = { timeout: 20_000, interval: 200 };

function manifest(kind: string, name: string, spec: string): string {
  return `apiVersion: crd.projectcalico.org/v1\nkind: ${kind}\nmetadata: {name: ${name}}\nspec: {${spec}}\n`;
}

function node(name: string): string {
  return `apiVersion: v1\nkind: Node\nmetadata: {name: ${name}, labels: {zone: a}}\n`;
}

let bench: Bench;
let client: HTTPKubeClient;
let log: string[];

const apply = async (text: string): Promise<unknown> => await bench.ok(["apply", "--validate=false", "-f", "-"], text);

/** The controller, as far as it is about pools. */
function startKeeper(): void {
  const stop = new AbortController();
  const options = { client, clock, random: Math.random, onError: (error: unknown) => void log.push(String(error)) };
  const cluster = new KubeSource(options);
  const source = new KubePoolSource(options, cluster);
  const write = (fields: object, message: string): void => void log.push(`${message} ${JSON.stringify(fields)}`);
  const reporter = createPoolReporter({
    log: { info: write, warn: write, error: write },
    metrics: createControllerMetrics(),
    emit: async (event) => void (await client.create(EVENTS, event, { namespace: EVENT_NAMESPACE })),
    clock,
    instance: "test",
  });
  const keeper = new PoolKeeper({ source, reporter, clock, isDryRun: false });
  source.onChange((what) => keeper.nudge(what));
  cluster.start();
  source.start();
  const running = keeper.run(stop.signal);
  onTestFinished(async () => {
    stop.abort(new Error("the test is over"));
    await running;
    await Promise.all([cluster.stop(), source.stop()]);
  });
}

async function start(crds = KINDS.map(renderCRD)): Promise<void> {
  bench = await startBench({ manifests: crds });
  log = [];
  client = new HTTPKubeClient({
    credentials: await loadKubeConfig({ kubeconfigPath: join(bench.dir, "kubeconfig") }),
    clock,
  });
  onTestFinished(() => client.close());
}

/** A line of `kubectl get ippools`, without the age. */
async function row(name: string): Promise<{ allocatable: string; healthy: string; message: string }> {
  const [head = "", line = ""] = (await bench.ok(["get", "ippools", name])).split("\n");
  const column = (title: string, next?: string): string =>
    line.slice(head.indexOf(title), next === undefined ? undefined : head.indexOf(next)).trim();
  return {
    allocatable: column("ALLOCATABLE", "HEALTHY"),
    healthy: column("HEALTHY", "AGE"),
    message: column("MESSAGE"),
  };
}

async function until(name: string, want: object): Promise<void> {
  await vi.waitFor(async () => expect(await row(name)).toMatchObject(want), patience);
}

async function takeAddress(): Promise<void> {
  const sources = sourcesOf(listedObjects(client, "node-a"), "node-a");
  const allocator = createAllocator({
    store: new KubeStore(client),
    sources,
    clock,
    random: Math.random,
    nodeName: "node-a",
  });
  await allocator.assign({ handleID: "net.c1", attributes: { node: "node-a" }, families: [4] });
  allocator.close();
}

const WELL = { allocatable: "True", healthy: "True", message: "" };

describe("conditions of IPPools, with kubectl", () => {
  beforeEach(async () => await start());

  it("shows at one glance which pools are used, and what is wrong with the others", async () => {
    startKeeper();
    await apply(manifest("IPPool", "a", "cidr: 10.0.0.0/16"));
    await until("a", WELL);
    await apply(manifest("IPPool", "b", "cidr: 10.0.0.0/24"));
    await until("b", {
      allocatable: "False",
      healthy: "False",
      message: containing("IPPool a (10.0.0.0/16)"),
    });
    expect(await row("a")).toEqual(WELL);
    // Who is in use stays, whatever comes and goes.
    await apply(manifest("IPPool", "a", "cidr: 10.0.0.0/16, disabled: true"));
    await until("b", WELL);
    expect((await row("a")).allocatable).toBe("False");
    await apply(manifest("IPPool", "a", "cidr: 10.0.0.0/16, disabled: false"));
    await until("a", { allocatable: "False", message: containing("IPPool b") });
    expect(await row("b")).toEqual(WELL);
    expect(await bench.ok(["describe", "ippool", "a"])).toMatch(/Warning\s+CIDROverlap/);
  });

  it("keeps an overlapping pool from being used: an agent that reads the condition takes no address of it", async () => {
    startKeeper();
    await apply(manifest("IPPool", "b", "cidr: 10.0.0.0/16"));
    await until("b", WELL);
    await apply(manifest("IPPool", "a", "cidr: 10.0.0.0/24, blockSize: 28"));
    await until("a", { allocatable: "False" });
    await takeAddress();
    expect((await client.list(IPAM_BLOCKS)).items.map(({ spec }) => spec.cidr)).toEqual([
      expect.stringMatching(/\/26$/),
    ]);
  });

  it("follows selectors, nodes and IPAMConfig", async () => {
    await apply(manifest("IPPool", "a", "cidr: 10.0.0.0/27, blockSize: 28, nodeSelector: zone = 'a'"));
    for (const name of ["node-a", "node-b", "node-c"]) await apply(node(name));
    startKeeper();
    await until("a", {
      healthy: "False",
      allocatable: "True",
      message: containing("nodeSelector cannot be read"),
    });
    await bench.ok(["patch", "ippool", "a", "--type=merge", "-p", `{"spec":{"nodeSelector":"zone == 'a'"}}`]);
    await until("a", WELL);
    await apply(manifest("IPAMConfig", "default", "strictAffinity: true, autoAllocateBlocks: true"));
    await until("a", { message: containing("2 blocks, and 3 nodes have no other pool: 1 of them get") });
    await bench.ok(["label", "node", "node-c", "zone-"]);
    await until("a", WELL);
  });

  it("tells of edits under live blocks, and of what a deleted pool leaves behind; releases work", async () => {
    await apply(manifest("IPPool", "a", "cidr: 10.0.0.0/24, blockSize: 26"));
    startKeeper();
    await until("a", WELL);
    await takeAddress();
    await apply(manifest("IPPool", "a", "cidr: 10.0.0.0/24, blockSize: 28"));
    await until("a", { healthy: "False", message: containing("there are blocks of /26") });
    await apply(manifest("IPPool", "a", "cidr: 10.1.0.0/24, blockSize: 26"));
    await until("a", { healthy: "False", message: containing("Its network was another one") });
    await bench.ok(["delete", "ippool", "a"]);
    await vi.waitFor(
      async () => expect(await bench.ok(["get", "events"])).toMatch(/OrphanedBlocks\s+ippool\/a/),
      patience,
    );
    const sources = sourcesOf(listedObjects(client, "node-a"), "node-a");
    const allocator = createAllocator({
      store: new KubeStore(client),
      sources,
      clock,
      random: Math.random,
      nodeName: "node-a",
    });
    await allocator.releaseByHandle("net.c1");
    allocator.close();
    const held = (await client.list(IPAM_BLOCKS)).items.flatMap(({ spec }) =>
      spec.allocations.filter((i) => i !== null),
    );
    expect(held).toEqual([]);
  });

  it("tells a pool that cannot be used at all what its spec should be", async () => {
    startKeeper();
    await apply(manifest("IPPool", "a", "cidr: 10.0.0.0/24, blockSize: 16"));
    await until("a", { healthy: "False", message: containing("spec.blockSize is 16, want 24 to 32") });
  });
});

describe("conditions of IPPools where the kind has none", () => {
  /** Calico's kind before 3.32. */
  const withoutStatus = KINDS.map((kind) => {
    if (kind.resource.plural !== "ippools") return renderCRD(kind);
    const { status: _, statusSubresource: __, ...old } = kind;
    return renderCRD(old);
  });

  it("notices, says so once, and tells in the log", async () => {
    await start(withoutStatus);
    expect(await bench.ok(["get", "crd", POOLS_CRD, "-o", "yaml"])).not.toContain("subresources");
    startKeeper();
    await apply(manifest("IPPool", "a", "cidr: 10.0.0.0/16, nodeSelector: zone = 'a'"));
    await vi.waitFor(() => expect(log.join("\n")).toContain("IPPool a: nodeSelector cannot be read"), patience);
    await vi.waitFor(() => expect(log.join("\n")).toContain("keeps no conditions"), patience);
    expect(await bench.ok(["get", "ippool", "a", "-o", "yaml"])).not.toContain("status:");
  });
});

// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ApiServer, createApiServer } from "../../src/apiserver/api-server.ts";
import { execute } from "../../src/cni/executor.ts";
import { CONF, FakeMachine, K8S_ARGS } from "../../src/cni/fake-cni.ts";
import { renderHistory } from "../../src/cni/journal/events.ts";
import { openJournal, readAddressHistory } from "../../src/cni/journal/node-journal.ts";
import type { AddressEvent } from "../../src/cni/journal/types.ts";
import { NODES, PODS } from "../../src/crds/core.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { IP_POOLS } from "../../src/crds/ip-pool.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import { type Listener, serveMetrics } from "../../src/felix/http.ts";
import { createAllocator } from "../../src/ipam/allocator/allocator.ts";
import { podAttributes } from "../../src/ipam/gc/fake-cluster.ts";
import { KubeStore, listedObjects } from "../../src/ipam/kube-store.ts";
import { sourcesOf } from "../../src/ipam/sources.ts";
import type { Allocation } from "../../src/ipam/types.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { systemClock as clock } from "../../src/lib/system-clock.ts";
import { formatIP } from "../../src/net/ip.ts";

/** The path of an API server's proxy of pods; `%3A` is how a client writes the colon. */
const POD_PROXY = /^\/api\/v1\/namespaces\/kube-system\/pods\/([^/]+)%3A9091\/proxy(\/.*)$/;

/**
 * The embedded API server, with what it lacks in front of it: the proxy of pods. As in a cluster, agents are reached at
 * an address of their node, never over loopback.
 */
class Cluster {
  readonly dir: string = mkdtempSync(join(tmpdir(), "gingham-cli-"));
  readonly agents: Map<string, Listener> = new Map();
  client!: HTTPKubeClient;
  #api!: ApiServer;
  #front!: Server;

  async start(): Promise<void> {
    this.#api = await createApiServer({ insecureHttp: true, manifests: KINDS.map(renderCRD) });
    this.#front = createServer((asked, answer) => this.#forward(asked, answer)).listen(0, "127.0.0.1");
    await new Promise((resolve) => this.#front.once("listening", resolve));
    const front = `http://127.0.0.1:${(this.#front.address() as AddressInfo).port}`;
    writeFileSync(this.kubeconfig, this.#api.adminKubeconfig().replaceAll(this.#api.url, front), { mode: 0o600 });
    const credentials = await loadKubeConfig({ kubeconfigPath: this.kubeconfig });
    this.client = new HTTPKubeClient({ credentials, clock });
    await this.client.create(IP_POOLS, {
      apiVersion: "crd.projectcalico.org/v1",
      kind: "IPPool",
      metadata: { name: "pool" },
      spec: { cidr: "10.244.0.0/26", blockSize: 28 },
    });
  }

  get kubeconfig(): string {
    return join(this.dir, "kubeconfig");
  }

  stateDir(node: string): string {
    return join(this.dir, node);
  }

  async addNode(name: string): Promise<void> {
    await this.client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name } });
  }

  /** An agent, as far as the world outside of its node sees it. */
  async addAgent(node: string, isRemote: boolean): Promise<void> {
    const source = {
      read: async (ip: Allocation["ip"]) => renderHistory(node, ip, await readAddressHistory(this.stateDir(node), ip)),
      isRemote,
    };
    const metrics = { contentType: "text/plain", text: async () => "" };
    const name = `gingham-agent-${node}`;
    this.agents.set(name, await serveMetrics(metrics, { host: "0.0.0.0", port: 0 }, source));
    const labels = { "app.kubernetes.io/name": "gingham-agent" };
    const containers = [{ name: "agent", image: "gingham.example/agent" }];
    const spec: { nodeName: string; containers: readonly object[] } = { nodeName: node, containers };
    const metadata = { name, namespace: "kube-system", labels };
    const pod = await this.client.create(PODS, { apiVersion: "v1", kind: "Pod", metadata, spec });
    await this.client.update(PODS, { ...pod, status: { phase: "Running" } }, { subresource: "status" });
  }

  async note(node: string, events: readonly AddressEvent[]): Promise<void> {
    const onError = (error: unknown): never => {
      throw error;
    };
    const journal = openJournal({ stateDir: this.stateDir(node), maxBytes: 100_000, clock, onError });
    for (const event of events) journal.address(event);
    await journal.close();
  }

  async assign(node: string, pod: string): Promise<Allocation> {
    const allocator = createAllocator({
      store: new KubeStore(this.client),
      sources: sourcesOf(listedObjects(this.client, node), node),
      clock,
      random: Math.random,
      nodeName: node,
    });
    const [allocation] = await allocator.assign({
      handleID: `net.${pod}`,
      attributes: podAttributes(node, pod),
      families: [4],
    });
    allocator.close();
    if (allocation === undefined) throw new Error("no address");
    return allocation;
  }

  /** The program itself. */
  async run(args: readonly string[], env: Record<string, string> = {}) {
    const argv = ["--disable-warning=ExperimentalWarning", "src/main/cli.ts", ...args];
    const child = spawn(process.execPath, argv, {
      env: { PATH: process.env["PATH"], HOME: this.dir, KUBECONFIG: this.kubeconfig, ...env },
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const status = await new Promise<number | null>((resolve) => child.once("close", resolve));
    return { status, stdout, stderr };
  }

  async stop(): Promise<void> {
    this.client.close();
    for (const agent of this.agents.values()) await agent.close();
    this.#front.closeAllConnections();
    await new Promise((resolve) => this.#front.close(resolve));
    await this.#api.close();
    rmSync(this.dir, { recursive: true });
  }

  #forward(asked: IncomingMessage, answer: ServerResponse): void {
    const [, pod = "", path = ""] = POD_PROXY.exec(asked.url ?? "") ?? [];
    const agent = this.agents.get(pod);
    const to = agent === undefined ? new URL(asked.url ?? "", this.#api.url) : new URL(path, atNode(agent));
    const call = request(to, { method: asked.method, headers: asked.headers }, (got) => {
      answer.writeHead(got.statusCode ?? 502, got.headers);
      got.pipe(answer);
    });
    call.on("error", () => answer.writeHead(502).end());
    asked.pipe(call);
  }
}

function atNode({ url }: Listener): string {
  const outer = Object.values(networkInterfaces())
    .flat()
    .find((address) => address?.internal === false && address.family === "IPv4");
  if (outer === undefined) throw new Error("This test needs an IPv4 address besides 127.0.0.1");
  return `http://${outer.address}:${new URL(url).port}`;
}

let cluster: Cluster;
beforeEach(async () => {
  cluster = new Cluster();
  await cluster.start();
});
afterEach(() => cluster.stop());

const T0 = Date.parse("2026-08-22T10:00:00Z");
const MINUTE = 60_000;
const attachment = (containerID: string) => ({ network: "k8s-pod-network", containerID, ifName: "eth0" });

/** An address that web-0 had on node-a, and web-1 has on node-b. */
async function passOn(): Promise<string> {
  for (const node of ["node-a", "node-b"]) await cluster.addNode(node);
  await cluster.addAgent("node-b", true);
  const now = await cluster.assign("node-b", "web-1");
  const { ip, block } = now;
  const before = {
    node: "node-a",
    handleID: "net.web-0",
    attachment: attachment("aaaa0000"),
    place: { ip, block, sequenceNumber: 7n },
  };
  const pod = { namespace: "default", name: "web-0", uid: "u0" };
  await cluster.note("node-a", [
    { kind: "assigned", atMs: T0, ...before, pod },
    { kind: "released", atMs: T0 + 5 * MINUTE, ...before, pod, why: "DEL" },
  ]);
  await cluster.note("node-b", [
    {
      kind: "assigned",
      atMs: T0 + 9 * MINUTE,
      node: "node-b",
      handleID: now.handleID,
      attachment: attachment("bbbb0000bbbb0000"),
      pod: { namespace: "default", name: "web-1" },
      place: now,
    },
  ]);
  return formatIP(ip);
}

const onNodeA = (): readonly string[] => ["--state-dir", cluster.stateDir("node-a"), "--node-name", "node-a"];
const lines = (text: string): readonly string[] => text.split("\n").map((line) => line.replace(/ {2,}/g, "  ").trim());

describe("gingham ipam history", () => {
  it("merges this node's files, the agents' answers and the block", async () => {
    const address = await passOn();
    const { status, stdout, stderr } = await cluster.run(["ipam", "history", address, ...onNodeA()]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(lines(stdout)).toEqual([
      `Address  ${address}`,
      `Block  ${address.replace(/\d+$/, "")}${Math.floor(Number(address.split(".")[3]) / 16) * 16}/28, host:node-b`,
      "Now  default/web-1 on node-b (handle net.web-1)",
      "",
      "FROM  TO  POD  CONTAINER  INTERFACE  NODE  ENDED BY",
      "2026-08-22T10:00:00.000Z  2026-08-22T10:05:00.000Z  default/web-0  aaaa0000  eth0  node-a  DEL",
      "2026-08-22T10:09:00.000Z  now  default/web-1  bbbb0000bbbb0  eth0  node-b",
      "",
      "Asked: node-a: its files, since 2026-08-22T10:00:00.000Z",
      "Asked: node-b: its agent, since 2026-08-22T10:09:00.000Z",
      "",
    ]);
  });

  it("says for each node that cannot be asked why, with exit status 1", async () => {
    const address = await passOn();
    await cluster.addNode("node-c");
    await cluster.addAgent("node-c", false);
    await cluster.addNode("node-d");
    const { status, stdout } = await cluster.run(["ipam", "history", address, "-o", "json", ...onNodeA()]);
    expect(status).toBe(1);
    const report = JSON.parse(stdout) as { nodes: unknown };
    expect(report).toMatchObject({
      address,
      holder: { handleID: "net.web-1", attributes: { pod: "web-1" } },
      tenures: [
        { node: "node-a", why: "DEL", isNow: false, pod: { name: "web-0", uid: "u0" } },
        { node: "node-b", to: null, isNow: true, containerID: "bbbb0000bbbb0000" },
      ],
    });
    const containing = (words: string): unknown => expect.stringContaining(words);
    expect(report.nodes).toEqual([
      { node: "node-a", asked: true, from: "files", since: "2026-08-22T10:00:00.000Z" },
      { node: "node-b", asked: true, from: "agent", since: "2026-08-22T10:09:00.000Z" },
      { node: "node-c", asked: false, why: containing("start it with --remote-history on") },
      { node: "node-d", asked: false, why: containing("no running pod labelled app.kubernetes.io/name=gingham-agent") },
    ]);
  });

  it("needs no API server for this node's files", async () => {
    const address = await passOn();
    const away = { KUBECONFIG: "/nowhere" };
    const local = await cluster.run(["ipam", "history", address, "--local", ...onNodeA()], away);
    expect(local.status).toBe(0);
    expect(local.stdout).toContain("web-0");
    expect(local.stdout).toContain("not known: no block was read");
    const some = await cluster.run(["ipam", "history", address, ...onNodeA()], away);
    expect(some.status).toBe(1);
    expect(some.stdout).toMatch(/Not asked: \(all others\): .*\/nowhere/);
    expect((await cluster.run(["ipam", "history", address, "--state-dir", "/nowhere"], away)).status).toBe(2);
    expect((await cluster.run(["ipam", "history", address, "--local", "--state-dir", "/nowhere"])).status).toBe(1);
    expect((await cluster.run(["ipam", "history", "10.0.0.500"])).status).toBe(2);
  });

  it("tells a free address, and one that nobody has noted", async () => {
    await passOn();
    const { status, stdout } = await cluster.run(["ipam", "history", "10.99.0.1", ...onNodeA()]);
    expect(status).toBe(0);
    expect(stdout).toContain("no block has it");
    expect(stdout).toContain("No node that answered has noted it");
  });
});

describe("gingham cni log", () => {
  it("shows the last calls with their steps, those of one pod, and those that failed", async () => {
    using machine = new FakeMachine();
    machine.kernel.addNetns("/run/netns/c1");
    const onError = (error: unknown): never => {
      throw error;
    };
    const stateDir = cluster.stateDir("node-a");
    const journal = openJournal({ stateDir, maxBytes: 100_000, clock, onError });
    const cni = { ...machine.start().cni, journal };
    const env = { CNI_CONTAINERID: "c1", CNI_IFNAME: "eth0", CNI_NETNS: "/run/netns/c1", CNI_ARGS: K8S_ARGS };
    await execute(cni, { ...env, CNI_COMMAND: "ADD" }, JSON.stringify(CONF));
    await execute(
      cni,
      { ...env, CNI_COMMAND: "ADD", CNI_CONTAINERID: "c2", CNI_NETNS: "/none", CNI_ARGS: "" },
      JSON.stringify(CONF),
    );
    await execute(cni, { ...env, CNI_COMMAND: "DEL" }, JSON.stringify(CONF));
    await journal.close();

    const all = await cluster.run(["cni", "log", "--state-dir", stateDir]);
    expect(all.status).toBe(0);
    const [title, add, failed, del] = lines(all.stdout);
    expect(title).toBe("TIME  VERB  POD  CONTAINER  ADDRESS  MS  CODE  STEPS (MS), MESSAGE");
    expect(add).toMatch(/ADD {2}default\/web-0 {2}c1 {2}10\.244\.0\.64 {2}[\d.]+ {2}0 {2}lock [\d.]+, .*assign [\d.]+/);
    expect(failed).toMatch(/ADD {2}- {2}c2 {2}- {2}[\d.]+ {2}4 {2}.*\/none/);
    expect(del).toMatch(/DEL {2}default\/web-0 {2}c1/);

    const json = async (...args: string[]): Promise<unknown[]> => {
      const { stdout } = await cluster.run(["cni", "log", "--state-dir", stateDir, "-o", "json", ...args]);
      return (JSON.parse(stdout) as { calls: unknown[] }).calls;
    };
    expect(await json("-n", "1")).toMatchObject([{ verb: "DEL", code: 0 }]);
    expect(await json("--failed")).toMatchObject([{ verb: "ADD", containerID: "c2", code: 4 }]);
    expect(await json("--pod", "default/web-0")).toHaveLength(2);
    expect(await json("--pod", "default/web")).toEqual([]);
    expect((await cluster.run(["cni", "log", "--state-dir", stateDir, "-n", "0"])).status).toBe(2);
    expect((await cluster.run(["cni", "log", "--state-dir", stateDir, "--pod", "web-0"])).status).toBe(2);
  });
});

describe("gingham ipam plan", () => {
  it("plans the rest of a cluster, with exit status 1 when a node has nothing left", async () => {
    for (const node of ["node-a", "node-b"]) await cluster.addNode(node);
    await cluster.assign("node-a", "web-0");
    const { status, stdout } = await cluster.run(["ipam", "plan", "-o", "json"]);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      pools: [{ pool: "pool", freeInBlocks: 15, unclaimed: { blocks: 3, addresses: 48 }, growth: { kind: "unknown" } }],
      nodes: [
        { node: "node-a", ownBlocks: 1, own: 15, claimable: 48, total: 63 },
        { node: "node-b", ownBlocks: 0, own: 0, claimable: 48, borrowable: 15, total: 63 },
      ],
      warnings: [],
    });
    for (const node of ["node-c", "node-d", "node-e"]) await cluster.addNode(node);
    const more = await cluster.run(["ipam", "plan"]);
    expect(more.status).toBe(1);
    expect(more.stdout).toContain("Warning: 4 nodes have no IPv4 block yet, and 3 are left: 1 of them can only borrow");
  });

  it("plans a pool without a cluster", async () => {
    const away = { KUBECONFIG: "/nowhere" };
    const fits = await cluster.run(
      ["ipam", "plan", "--pool-size", "10.0.0.0/16", "--nodes", "200", "-o", "yaml"],
      away,
    );
    expect(fits.status).toBe(0);
    expect(fits.stdout).toContain("maxNodes: 512\n");
    expect((await cluster.run(["ipam", "plan", "--pool-size", "/20", "--nodes", "200"], away)).status).toBe(1);
    expect((await cluster.run(["ipam", "plan", "--pool-size", "/20", "--block-size", "19"], away)).status).toBe(2);
  });
});

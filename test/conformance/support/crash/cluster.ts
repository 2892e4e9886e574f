// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Identity } from "../../../../src/apiserver/auth.ts";
import { kubeconfig } from "../../../../src/apiserver/kubeconfig.ts";
import { BLOCK_AFFINITIES } from "../../../../src/crds/block-affinity.ts";
import { NODES, PODS } from "../../../../src/crds/core.ts";
import { IP_POOLS } from "../../../../src/crds/ip-pool.ts";
import { IPAM_BLOCKS } from "../../../../src/crds/ipam-block.ts";
import { IPAM_HANDLES } from "../../../../src/crds/ipam-handle.ts";
import { checkBlock } from "../../../../src/ipam/check-block.ts";
import { heldAddresses } from "../../../../src/ipam/gc/addresses.ts";
import { HTTPKubeClient } from "../../../../src/kube/client.ts";
import { loadKubeConfig } from "../../../../src/kube/kube-config.ts";
import { systemClock as clock } from "../../../../src/lib/system-clock.ts";
import { formatIP } from "../../../../src/net/ip.ts";
import { buildLauncher } from "../launcher.ts";
import { buildFaulty } from "./build.ts";

const ADMIN: Identity = { token: "crash-admin-token", user: "admin", role: "admin" };

/** One API server, as a process on a disk, and the programs that are killed; shared by all machines. */
export class Cluster implements AsyncDisposable {
  readonly dir: string = mkdtempSync(join(tmpdir(), "gingham-crash-"));
  client!: HTTPKubeClient;
  url = "";
  #server: ChildProcess | undefined;
  readonly #tokens: readonly Identity[];

  private constructor(nodes: readonly string[]) {
    this.#tokens = [ADMIN, ...nodes.map(identityOf)];
  }

  static async start(nodes: readonly string[]): Promise<Cluster> {
    const cluster = new Cluster(nodes);
    buildLauncher(join(cluster.dir, "gingham"));
    await buildFaulty(cluster.dir);
    await cluster.startServer();
    const kubeconfigPath = join(cluster.dir, "admin.kubeconfig");
    writeFileSync(kubeconfigPath, kubeconfig(cluster.url, undefined, ADMIN.user, ADMIN.token), { mode: 0o600 });
    cluster.client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }), clock });
    await cluster.client.create(IP_POOLS, {
      apiVersion: "crd.projectcalico.org/v1",
      kind: "IPPool",
      metadata: { name: "pool" },
      spec: { cidr: "10.77.0.0/16", blockSize: 26 },
    });
    for (const name of nodes)
      await cluster.client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name } });
    return cluster;
  }

  /** The server of before, on the same port, when it was killed. */
  async startServer(): Promise<void> {
    const port = this.url === "" ? "0" : new URL(this.url).port;
    const args = [join(this.dir, "api.db"), port, JSON.stringify(this.#tokens)];
    this.#server = fork(join(this.dir, "api-server.mjs"), args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    const [url] = (await once(this.#server, "message")) as [string];
    this.url = url;
  }

  async killServer(): Promise<void> {
    if (this.#server === undefined) return;
    const exited = once(this.#server, "exit");
    this.#server.kill("SIGKILL");
    await exited;
  }

  kubeconfigOf(node: string, url: string): string {
    const { user, token } = identityOf(node);
    return kubeconfig(url, undefined, user, token);
  }

  async createPod(name: string, node: string): Promise<void> {
    const spec: { nodeName: string; containers: readonly object[] } = {
      nodeName: node,
      containers: [{ name: "main", image: "gingham.example/test" }],
    };
    await this.client.create(PODS, { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "default" }, spec });
  }

  /** Waits until the pod tells its address. */
  async annotated(pod: string): Promise<void> {
    await until(`pod ${pod} tells its address`, async () =>
      Boolean((await this.annotationsOf(pod))["cni.projectcalico.org/podIP"]),
    );
  }

  async annotationsOf(pod: string): Promise<Readonly<Record<string, string>>> {
    return (await this.client.get(PODS, pod, { namespace: "default" })).metadata.annotations ?? {};
  }

  /** Waits until the node owns a block, as an agent sees to soon after its first start. */
  async claimed(node: string): Promise<void> {
    await until(`${node} owns a block`, async () => {
      const { claims, wrong } = await this.claimsOf(node);
      return claims.length > 0 && wrong.length === 0;
    });
  }

  /** Takes away all blocks and claims of a node that holds no address. */
  async disown(node: string): Promise<void> {
    for (const { metadata, spec } of (await this.client.list(IPAM_BLOCKS)).items) {
      if (spec.affinity === `host:${node}`) await this.client.delete(IPAM_BLOCKS, metadata.name);
    }
    for (const { metadata, spec } of (await this.client.list(BLOCK_AFFINITIES)).items) {
      if (spec.node === node) await this.client.delete(BLOCK_AFFINITIES, metadata.name);
    }
  }

  /** Addresses that a node holds, by handle, after every block was found sound. */
  async heldBy(node: string): Promise<readonly { readonly ip: string; readonly handleID: string }[]> {
    const { items } = await this.client.list(IPAM_BLOCKS);
    const damage = items.flatMap(({ spec }) => checkBlock(spec, clock.nowMs()));
    if (damage.length > 0) throw new Error(`damaged blocks: ${JSON.stringify(damage)}`);
    const held = items.flatMap(({ spec }) => heldAddresses(spec));
    return held
      .filter(({ attributes }) => attributes["node"] === node)
      .map(({ ip, handleID }) => ({ ip: formatIP(ip), handleID }));
  }

  /** Handles whose ID has the words in it, with how many addresses each counts. */
  async handles(words: string): Promise<readonly string[]> {
    const { items } = await this.client.list(IPAM_HANDLES);
    return items
      .filter(({ spec }) => spec.handleID.includes(words))
      .map(({ spec }) => `${spec.handleID}: ${Object.values(spec.block).join()}`);
  }

  /** Claims of a node, as `10.77.0.0/26 confirmed`, and what is wrong between them and the blocks. */
  async claimsOf(node: string): Promise<{ readonly claims: readonly string[]; readonly wrong: readonly string[] }> {
    const affinities = (await this.client.list(BLOCK_AFFINITIES)).items.filter(({ spec }) => spec.node === node);
    const blocks = (await this.client.list(IPAM_BLOCKS)).items.filter(
      ({ spec }) => spec.affinity === `host:${node}` && !spec.deleted,
    );
    const claims = affinities.map(({ spec }) => `${spec.cidr} ${spec.state}`);
    const claimed = new Set(affinities.map(({ spec }) => spec.cidr));
    const owned = new Set(blocks.map(({ spec }) => spec.cidr));
    const wrong = [
      ...affinities.filter(({ spec }) => spec.state !== "confirmed").map(({ spec }) => `${spec.cidr} is ${spec.state}`),
      ...[...claimed].filter((cidr) => !owned.has(cidr)).map((cidr) => `${cidr} is claimed without a block`),
      ...[...owned].filter((cidr) => !claimed.has(cidr)).map((cidr) => `${cidr} is owned without a claim`),
    ];
    return { claims, wrong };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client?.close();
    await this.killServer();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Asks every 10 ms. @throws Error after 10 s */
export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`Not within 10 s: ${what}`);
    await sleep(10);
  }
}

function identityOf(node: string): Identity {
  return { token: `crash-token-of-${node}`, user: `system:node:${node}`, role: "node", node };
}

// SPDX-License-Identifier: Apache-2.0
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CLUSTER_INFORMATIONS } from "../crds/cluster-information.ts";
import { NODES } from "../crds/core.ts";
import { type EncapMode, IP_POOLS } from "../crds/ip-pool.ts";
import { IPAM_CONFIGS } from "../crds/ipam-config.ts";
import { KUBE_CONTROLLERS_CONFIGURATIONS } from "../crds/kube-controllers-configuration.ts";
import type { KubeClient } from "../kube/api.ts";
import type { Family } from "../net/ip.ts";
import { AGENT_KUBECONFIG, startAgent } from "./agent.ts";
import { ADMIN_KUBECONFIG, readAdminCredentials, startAPIServer, writeTokens } from "./api-server.ts";
import {
  renderClusterInformation,
  renderConflist,
  renderIPAMConfig,
  renderIPPool,
  renderKubeControllersConfiguration,
  renderNode,
} from "./cluster-objects.ts";
import { startController } from "./controller.ts";
import { LabError } from "./errors.ts";
import { blockSizeOf, nodeIPs, segmentIPs } from "./families.ts";
import { type Credentials, renderKubeconfig } from "./kubeconfig.ts";
import type { ManagedProcess } from "./managed-process.ts";
import { enterNodeArgv, enterPodArgv } from "./namespaces.ts";
import { addPod, delPod, type RunningPod } from "./pods.ts";
import type { Progress } from "./progress.ts";
import { type RunResult, run } from "./run.ts";
import type { ShellTarget } from "./state.ts";
import { CNI_CONF_DIR, createNode, LAB_DIR, type LabNode, setUpSandbox } from "./topology.ts";
import type { ExecOptions, LabControl, LabPod, PodRequest } from "./types.ts";

/** What the laboratory is built from. */
export interface LabParts {
  readonly nodes: number;
  /** Of IPv4 blocks; those of IPv6 have as many addresses. */
  readonly blockSize: number;
  readonly families: readonly Family[];
  /** Of the pools. */
  readonly vxlan: EncapMode;
  /** Command lines of the real things. */
  readonly agentProgram: readonly string[];
  readonly apiServerProgram: readonly string[];
  readonly controllerProgram: readonly string[];
  readonly launcher: string;
  readonly crdDir: string;
  readonly connect: (kubeconfig: string) => Promise<KubeClient>;
}

/** A running laboratory, seen from inside its namespaces. Ending process 1 of the sandbox is what takes it down. */
export class Lab implements LabControl {
  readonly #parts: LabParts;
  readonly #client: KubeClient;
  readonly #nodes: ReadonlyMap<string, LabNode>;
  readonly #agents = new Map<string, ManagedProcess>();
  readonly #pods = new Map<string, RunningPod>();
  #apiServer: ManagedProcess;
  readonly credentials: Credentials;

  private constructor(
    parts: LabParts,
    made: {
      client: KubeClient;
      nodes: ReadonlyMap<string, LabNode>;
      apiServer: ManagedProcess;
      credentials: Credentials;
    },
  ) {
    this.#parts = parts;
    this.#client = made.client;
    this.#nodes = made.nodes;
    this.#apiServer = made.apiServer;
    this.credentials = made.credentials;
  }

  /** Builds everything but the pods. Must run as process 1 of a sandbox. */
  static async build(parts: LabParts, progress: Progress): Promise<Lab> {
    const names = Array.from({ length: parts.nodes }, (_, i) => `node-${i + 1}`);
    const tokens = await progress.step(`network segment and ${count(parts.nodes, "node")}`, async () => {
      await setUpSandbox(parts.families);
      return writeTokens(names);
    });
    const [apiServer, nodes] = await progress.step("API server and nodes", () =>
      Promise.all([
        startAPIServer(parts.apiServerProgram, apiServerIPOf(parts), parts.crdDir),
        Promise.all(names.map((name, i) => createNode(name, nodeIPs(i, parts.families), parts.launcher))),
      ]),
    );
    const client = await parts.connect(ADMIN_KUBECONFIG);
    const credentials = await readAdminCredentials();
    const made = { client, apiServer, credentials, nodes: new Map(nodes.map((node) => [node.name, node])) };
    const lab = new Lab(parts, made);
    await progress.step("address pool, cluster settings and Node objects", () => lab.#createObjects());
    startController(parts.controllerProgram);
    await progress.step(`an agent on each node`, () =>
      Promise.all(
        nodes.map((node) => {
          const kubeconfig = renderKubeconfig({ ...credentials, token: tokens.get(node.name) ?? "" });
          writeFileSync(join(node.root, AGENT_KUBECONFIG), kubeconfig, { mode: 0o600 });
          const conflist = renderConflist(parts.families);
          writeFileSync(join(node.root, CNI_CONF_DIR, "10-gingham.conflist"), conflist, { mode: 0o600 });
          return lab.startAgent(node.name);
        }),
      ),
    );
    return lab;
  }

  get families(): readonly Family[] {
    return this.#parts.families;
  }

  /** Addresses that nodes have out of pools, each under a handle of its own. */
  get tunnelAddresses(): number {
    return this.#parts.vxlan === "Never" ? 0 : this.nodes.length * this.families.length;
  }

  get apiServerIP(): string {
    return apiServerIPOf(this.#parts);
  }

  get nodes(): readonly LabNode[] {
    return [...this.#nodes.values()];
  }

  get pods(): readonly LabPod[] {
    return [...this.#pods.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  }

  /** How another terminal gets onto a node or into a pod. */
  get targets(): Readonly<Record<string, ShellTarget>> {
    const nodes = this.nodes.map(({ name, holderPid }) => [name, { holderPid }] as const);
    const pods = this.pods.map(
      ({ name, node, netns }) => [name, { holderPid: this.#node(node).holderPid, netns }] as const,
    );
    return Object.fromEntries([...nodes, ...pods]);
  }

  async exec(target: string, argv: readonly string[], options: ExecOptions = {}): Promise<RunResult> {
    const { env, input } = options;
    return run([...this.enterArgv(target), ...argv], {
      env: { ...process.env, ...env },
      ...(input === undefined ? {} : { input }),
    });
  }

  /** What to put before a command line so that it runs there; nothing for the segment itself. */
  enterArgv(target: string): readonly string[] {
    if (target === "lab") return [];
    const pod = this.#pods.get(target);
    if (pod !== undefined) return enterPodArgv(this.#node(pod.node).holderPid, pod.netns);
    return enterNodeArgv(this.#node(target).holderPid);
  }

  kubectl(args: readonly string[], input?: string): Promise<RunResult> {
    return run(["kubectl", "--cache-dir", join(LAB_DIR, "kubectl-cache"), ...args], {
      env: { ...process.env, KUBECONFIG: ADMIN_KUBECONFIG },
      ...(input === undefined ? {} : { input }),
    });
  }

  async addPod(request: PodRequest): Promise<LabPod> {
    const pod = await addPod(this.#client, this.#node(request.node), request);
    this.#pods.set(pod.name, pod);
    return pod;
  }

  async delPod(name: string): Promise<void> {
    const pod = this.#pods.get(name);
    if (pod === undefined) throw new LabError("NoPod", `There is no pod ${name} in the laboratory`);
    await delPod(this.#client, this.#node(pod.node), pod);
    this.#pods.delete(name);
  }

  async startAgent(node: string): Promise<void> {
    this.#agents.set(node, await startAgent(this.#node(node), this.#parts.agentProgram));
  }

  async killAgent(node: string, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    await this.#agents.get(node)?.kill(signal);
    this.#agents.delete(node);
  }

  async startAPIServer(): Promise<void> {
    this.#apiServer = await startAPIServer(this.#parts.apiServerProgram, this.apiServerIP, this.#parts.crdDir);
  }

  killAPIServer(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    return this.#apiServer.kill(signal);
  }

  async listPods(): Promise<readonly LabPod[]> {
    return this.pods;
  }

  async logs(name: string): Promise<string> {
    return readFileSync(join(LAB_DIR, "logs", `${name}.log`), "utf8");
  }

  #node(name: string): LabNode {
    const node = this.#nodes.get(name);
    if (node === undefined) {
      const known = [...this.#nodes.keys(), ...this.#pods.keys()].join(", ");
      throw new LabError("NoTarget", `There is no ${name} in the laboratory; there are ${known}`);
    }
    return node;
  }

  async #createObjects(): Promise<void> {
    const client = this.#client;
    await Promise.all([
      ...this.families.map((family) =>
        client.create(IP_POOLS, renderIPPool(blockSizeOf(family, this.#parts.blockSize), family, this.#parts.vxlan)),
      ),
      client.create(CLUSTER_INFORMATIONS, renderClusterInformation(randomUUID().replaceAll("-", ""))),
      client.create(IPAM_CONFIGS, renderIPAMConfig()),
      client.create(KUBE_CONTROLLERS_CONFIGURATIONS, renderKubeControllersConfiguration()),
      ...this.nodes.map(async ({ name, ips }) => {
        const node = renderNode(name, ...ips.map(({ ip }) => ip));
        await client.create(NODES, node);
        // A create does not take the status: that is the kubelet's to write.
        await client.patch(NODES, name, { type: "merge", body: { status: node.status } }, { subresource: "status" });
      }),
    ]);
  }
}

function apiServerIPOf({ families }: Pick<LabParts, "families">): string {
  return segmentIPs(families)[0]?.ip ?? "";
}

/** `1 node`, `3 nodes`. */
export function count(n: number, thing: string): string {
  return `${n} ${thing}${n === 1 ? "" : "s"}`;
}

// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { withNetns } from "../../../../src/netlink/netns.ts";
import { type Cluster, until } from "./cluster.ts";
import { type Arm, POINTS_AT, POINTS_LOG } from "./points.ts";
import { ServerProxy } from "./proxy.ts";

export const NETWORK = "crash-net";
const NODE_ARGV = [process.execPath, "--disable-warning=ExperimentalWarning"];

/** A sandbox of a pod: what a runtime asks an interface for. */
export interface Sandbox {
  readonly containerID: string;
  /** Absent: a container that is no pod. */
  readonly pod?: string;
  /** Path of its network namespace. */
  readonly netns: string;
}

export interface CallResult {
  readonly stdout: string;
  readonly exitCode: number | null;
  readonly tookMs: number;
}

export type Verb = "ADD" | "DEL" | "VERSION";

function ip(...words: readonly string[]): string {
  return execFileSync("ip", words, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

type Row = Readonly<Record<string, unknown>>;

function rows(...words: readonly string[]): readonly Row[] {
  const text = ip("-j", ...words).trim();
  return text === "" ? [] : (JSON.parse(text) as Row[]); // Its shape is iproute2's.
}

/** A node: a network namespace that plays the host, a folder for its state, and the programs on it. */
export class Machine implements AsyncDisposable {
  readonly node: string;
  readonly cluster: Cluster;
  readonly proxy: ServerProxy;
  readonly stateDir: string;
  readonly socketPath: string;
  readonly #netns: string;
  readonly #dir: string;
  readonly #sandboxes = new Set<string>();
  #agent: ChildProcess | undefined;

  private constructor(cluster: Cluster, node: string) {
    this.cluster = cluster;
    this.node = node;
    this.#dir = join(cluster.dir, node);
    this.stateDir = join(this.#dir, "state");
    this.socketPath = join(this.#dir, "run/agent.sock");
    mkdirSync(this.#dir);
    this.#netns = `crash-${process.pid}-${node}`;
    ip("netns", "add", this.#netns);
    ip("-n", this.#netns, "link", "set", "lo", "up");
    this.proxy = new ServerProxy(cluster.url, (listen) => {
      const fd = openSync(`/run/netns/${this.#netns}`, "r");
      withNetns({ fd }, listen);
      closeSync(fd);
    });
  }

  static async start(cluster: Cluster, node: string): Promise<Machine> {
    const machine = new Machine(cluster, node);
    await machine.proxy.up();
    writeFileSync(machine.kubeconfig, cluster.kubeconfigOf(node, machine.proxy.url), { mode: 0o600 });
    // Beside the launcher, which executes it when no agent listens and the configuration names a kubeconfig.
    const program = `#!/bin/sh\nexec ${NODE_ARGV.join(" ")} ${join(cluster.dir, "standalone.mjs")}\n`;
    writeFileSync(join(cluster.dir, "gingham-standalone"), program, { mode: 0o755 });
    return machine;
  }

  get kubeconfig(): string {
    return join(this.#dir, "kubeconfig");
  }

  get log(): string {
    return join(this.#dir, "agent.log");
  }

  /** Points that were passed since the last `arm`, in order. */
  get points(): readonly string[] {
    const file = join(this.#dir, "points");
    return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n").filter(Boolean) : [];
  }

  /** @param at point to die at, counted from the start of the process; absent: none until `arm` */
  async startAgent(at?: string): Promise<void> {
    await this.killAgent();
    this.#forgetPoints();
    const log = openSync(this.log, "a");
    const argv = [...NODE_ARGV, join(this.cluster.dir, "agent.mjs")];
    this.#agent = spawn("nsenter", [`--net=/run/netns/${this.#netns}`, ...argv], {
      stdio: ["ignore", log, log, "ipc"],
      env: {
        ...this.#pointsEnv(at),
        NODENAME: this.node,
        KUBECONFIG: this.kubeconfig,
        GINGHAM_SOCKET: this.socketPath,
        GINGHAM_STATE_DIR: this.stateDir,
        FELIX_HEALTHPORT: "0",
        FELIX_PROMETHEUSMETRICSHOST: "127.0.0.1",
        FELIX_PROMETHEUSMETRICSPORT: "0",
      },
    });
    closeSync(log);
    await until("the agent listens", async () => !this.isAgentUp || (await this.#isListening()));
    if (!this.isAgentUp && at === undefined) throw new Error(`the agent ended: ${this.tailOfLog()}`);
  }

  get isAgentUp(): boolean {
    return this.#agent !== undefined && this.#agent.exitCode === null && this.#agent.signalCode === null;
  }

  /** Has the agent count its points anew, and die at the one that is named; an empty name: only count. */
  async arm(at: string): Promise<void> {
    this.#forgetPoints();
    const armed = once(this.#running(), "message", { signal: AbortSignal.timeout(10_000) });
    this.#running().send({ at } satisfies Arm);
    await armed;
  }

  /** Resolves to the signal that ended the agent. @throws Error when it lives on for 10 s */
  async agentDied(): Promise<string> {
    const agent = this.#running();
    if (this.isAgentUp) await once(agent, "exit", { signal: AbortSignal.timeout(10_000) });
    this.#agent = undefined;
    return String(agent.signalCode);
  }

  async killAgent(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    if (!this.isAgentUp) return;
    this.#running().kill(signal);
    await this.agentDied();
  }

  /** SIGSTOP or SIGCONT. */
  signalAgent(signal: NodeJS.Signals): void {
    if (this.isAgentUp) this.#running().kill(signal);
  }

  tailOfLog(): string {
    if (!existsSync(this.log)) return "";
    return readFileSync(this.log, "utf8").split("\n").slice(-15).join("\n");
  }

  addSandbox(containerID: string, pod?: string): Sandbox {
    const name = `crash-${process.pid}-${this.node}-${containerID}`;
    ip("netns", "add", name);
    this.#sandboxes.add(name);
    return { containerID, ...(pod !== undefined && { pod }), netns: `/run/netns/${name}` };
  }

  removeSandbox({ netns }: Sandbox): void {
    const name = netns.replace("/run/netns/", "");
    if (this.#sandboxes.delete(name)) ip("netns", "delete", name);
  }

  /** What the runtime executes, as a child: the launcher, on this machine. */
  launch(
    verb: Verb,
    sandbox: Sandbox,
    { conf = {}, at }: { readonly conf?: object; readonly at?: string } = {},
  ): { readonly child: ChildProcess; readonly done: Promise<CallResult> } {
    const { containerID, netns, pod } = sandbox;
    const start = performance.now();
    const child = spawn("nsenter", [`--net=/run/netns/${this.#netns}`, join(this.cluster.dir, "gingham")], {
      stdio: ["pipe", "pipe", "inherit"],
      env: {
        ...this.#pointsEnv(at),
        PATH: process.env["PATH"],
        GINGHAM_SOCKET: this.socketPath,
        GINGHAM_STATE_DIR: this.stateDir,
        CNI_COMMAND: verb,
        CNI_CONTAINERID: containerID,
        CNI_NETNS: netns,
        CNI_IFNAME: "eth0",
        CNI_PATH: "/opt/cni/bin",
        ...(pod !== undefined && { CNI_ARGS: `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod}` }),
      },
    });
    let stdout = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stdin?.on("error", () => {});
    child.stdin?.end(
      JSON.stringify({ cniVersion: "1.0.0", name: NETWORK, type: "gingham", ipam: { type: "gingham-ipam" }, ...conf }),
    );
    const done = once(child, "close").then(([exitCode]) => ({
      stdout,
      exitCode: exitCode as number | null, // As node:child_process documents.
      tookMs: performance.now() - start,
    }));
    return { child, done };
  }

  call(verb: Verb, sandbox: Sandbox, options: Parameters<Machine["launch"]>[2] = {}): Promise<CallResult> {
    return this.launch(verb, sandbox, options).done;
  }

  /** The standalone program writes its points into the same file. */
  async callAlone(verb: Verb, sandbox: Sandbox, at?: string): Promise<CallResult> {
    this.#forgetPoints();
    const conf = { nodename: this.node, kubernetes: { kubeconfig: this.kubeconfig } };
    return await this.call(verb, sandbox, { conf, ...(at !== undefined && { at }) });
  }

  /** Hosts' ends of pairs, by name. */
  links(): readonly string[] {
    return rows("-n", this.#netns, "link", "show").flatMap(({ ifname }) =>
      String(ifname).startsWith("cali") ? [String(ifname)] : [],
    );
  }

  /** The host's routes to pods, as `10.77.0.1 dev cali…`. */
  podRoutes(): readonly string[] {
    return rows("-n", this.#netns, "route", "show").flatMap(({ dst, dev }) =>
      String(dev).startsWith("cali") ? [`${String(dst)} dev ${String(dev)}`] : [],
    );
  }

  /** Addresses of eth0 in a sandbox; undefined when there is no such interface. */
  addressesIn({ netns }: Sandbox): readonly string[] | undefined {
    const links = rows("-n", netns.replace("/run/netns/", ""), "addr", "show");
    const eth0 = links.find(({ ifname }) => ifname === "eth0");
    if (eth0 === undefined) return undefined;
    return (eth0["addr_info"] as Row[]).filter(({ family }) => family === "inet").map(({ local }) => String(local));
  }

  /** Every file that tells of an attachment or a release, whatever its name. */
  files(): readonly string[] {
    return ["attachments", "pending"].flatMap((folder) => {
      const path = join(this.stateDir, folder);
      if (!existsSync(path)) return [];
      const entries = readdirSync(path, { recursive: true, withFileTypes: true });
      return entries.filter((entry) => entry.isFile()).map((entry) => `${folder}/${entry.name}`);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.killAgent();
    this.proxy.close();
    for (const name of this.#sandboxes) ip("netns", "delete", name);
    ip("netns", "delete", this.#netns);
  }

  #running(): ChildProcess {
    if (this.#agent === undefined) throw new Error(`no agent runs on ${this.node}`);
    return this.#agent;
  }

  #pointsEnv(at: string | undefined): Record<string, string> {
    return { [POINTS_LOG]: join(this.#dir, "points"), ...(at !== undefined && { [POINTS_AT]: at }) };
  }

  #forgetPoints(): void {
    rmSync(join(this.#dir, "points"), { force: true });
  }

  #isListening(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.socketPath);
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
  }
}

// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeClock } from "../lib/fake-clock.ts";
import type { IP } from "../net/ip.ts";
import type { CNI } from "./commands/cni.ts";
import { FakeConntrack } from "./conntrack/fake-conntrack.ts";
import { ConntrackFlusher } from "./conntrack/flusher.ts";
import type { PluginRunner } from "./delegation/types.ts";
import { EndpointBook } from "./endpoint-book.ts";
import { execute, type Reply } from "./executor.ts";
import { FakeAddresses } from "./fake-addresses.ts";
import { FakeKernel, FakeWiring } from "./fake-wiring.ts";
import { KeyedLocks } from "./locks.ts";
import type { Endpoint, Logger, NamespaceSource, PodSource } from "./ports.ts";
import { filePendingStore } from "./records/pending-store.ts";
import { fileRecordStore } from "./records/record-store.ts";
import type { Executor, Vantage } from "./types.ts";

/** What outlives a process: kernel, datastore, disk. */
export class FakeMachine implements Disposable {
  readonly kernel: FakeKernel = new FakeKernel();
  readonly conntrack: FakeConntrack = new FakeConntrack();
  readonly addresses: FakeAddresses = new FakeAddresses();
  readonly clock: FakeClock = new FakeClock();
  readonly stateDir: string = mkdtempSync(join(tmpdir(), "gingham-cni-"));
  bootID = "boot-1";
  readonly ownAddresses: IP[] = [];
  /** Other IPAM plugins; absent: none can be executed. */
  delegates: PluginRunner | undefined;
  podCIDRs: readonly string[] = [];
  /** What the API server knows of pods and namespaces; absent: nobody asks. */
  pods: PodSource | undefined;
  namespaces: NamespaceSource | undefined;
  /** Contents of files that name the node. */
  readonly nodeNameFiles: Map<string, string> = new Map();
  /** Where processes stand. */
  vantage: Vantage = { mntns: 1n, pidns: 2n, dir: { dev: 25n, inode: 7n } };
  readonly #alive = new Set<number>();
  #nextPid = 100;

  reboot(): void {
    this.kernel.reboot();
    this.bootID = `${this.bootID}+`;
    this.#alive.clear();
  }

  /** A process that has just started; it dies when `crash` of its fault injector does, or by `kill`. */
  start(faults: Faults = new Faults()): FakeProcess {
    const executor = { pid: this.#nextPid++, startTicks: 1 };
    this.#alive.add(executor.pid);
    return new FakeProcess(this, executor, faults);
  }

  kill(executor: Executor): void {
    this.#alive.delete(executor.pid);
  }

  isAlive(executor: Executor): boolean {
    return this.#alive.has(executor.pid);
  }

  [Symbol.dispose](): void {
    rmSync(this.stateDir, { recursive: true, force: true });
  }
}

/** What happens at which outside effect. Each call of a port counts twice: before its effect and after it. */
export class Faults {
  /** Calls of ports so far, as `wiring.wire before`. */
  readonly points: string[] = [];
  readonly #at: number;
  readonly #kind: "crash" | "throw";
  #crashed = false;
  /** Resolves when the process has died. */
  readonly crashed: Promise<void>;
  readonly #onCrash: () => void;

  /** @param at index of the point; -1: nothing happens. A crash ends everything; a throw fails just this call. */
  constructor(at = -1, kind: "crash" | "throw" = "crash") {
    this.#at = at;
    this.#kind = kind;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.crashed = promise;
    this.#onCrash = resolve;
  }

  /** Puts the fault points around every method of a port. */
  around<T extends object>(port: string, target: T): T {
    const pass = (point: string) => this.#pass(point);
    return new Proxy(target, {
      get(object, property) {
        const value: unknown = Reflect.get(object, property);
        if (typeof value !== "function") return value;
        return async (...args: unknown[]): Promise<unknown> => {
          await pass(`${port}.${String(property)} before`);
          const result: unknown = await Reflect.apply(value, object, args);
          await pass(`${port}.${String(property)} after`);
          return result;
        };
      },
    });
  }

  #pass(point: string): Promise<void> {
    const index = this.points.push(point) - 1;
    if (index === this.#at && this.#kind === "throw") return Promise.reject(new Error(`injected at ${point}`));
    if (index === this.#at) {
      this.#crashed = true;
      this.#onCrash();
    }
    // The dead do nothing more, not even fail.
    return this.#crashed ? new Promise(() => {}) : Promise.resolve();
  }
}

/** One agent (or standalone program) on a machine. */
export class FakeProcess {
  readonly machine: FakeMachine;
  readonly executor: Executor;
  readonly cni: CNI;
  /** What Felix was told, in order. */
  readonly told: string[] = [];
  readonly endpoints: Map<string, Endpoint> = new Map();
  readonly logged: { readonly level: string; readonly message: string; readonly fields: object }[] = [];

  constructor(machine: FakeMachine, executor: Executor, faults: Faults) {
    this.machine = machine;
    this.executor = executor;
    const log = this.#logger();
    this.cni = {
      addresses: faults.around("addresses", machine.addresses),
      wiring: faults.around("wiring", new FakeWiring(machine.kernel)),
      conntrack: new ConntrackFlusher({ conntrack: machine.conntrack, clock: machine.clock, log }),
      records: faults.around("records", fileRecordStore(join(machine.stateDir, "attachments"))),
      pending: filePendingStore(join(machine.stateDir, "pending"), log),
      host: {
        nodeName: "node-a",
        bootID: machine.bootID,
        executor,
        podMTUBytes: 1450,
        ownAddresses: machine.ownAddresses,
        nodeNameIn: (path) => machine.nodeNameFiles.get(path),
        isAlive: (other) => machine.isAlive(other),
        vantageOf: async () => machine.vantage,
      },
      segments: new Set(),
      ...(machine.delegates && { delegates: faults.around("delegates", machine.delegates) }),
      podCIDRs: async () => machine.podCIDRs,
      ...(machine.pods && { pods: machine.pods }),
      ...(machine.namespaces && { namespaces: machine.namespaces }),
      endpoints: new EndpointBook({
        endpointUp: (endpoint) => {
          this.told.push(`up ${endpoint.key} ${endpoint.hostIface} ${endpoint.hostIfIndex === 0 ? "wanted" : "made"}`);
          this.endpoints.set(endpoint.key, endpoint);
        },
        endpointDown: ({ key }) => {
          this.told.push(`down ${key}`);
          this.endpoints.delete(key);
        },
      }),
      locks: new KeyedLocks(),
      clock: machine.clock,
      log,
      releaseWaitMs: 5000,
    };
  }

  /** Runs one call of the plugin. */
  call(command: string, options: CallOptions = {}): Promise<Reply> {
    const {
      containerID = "c1",
      ifName = "eth0",
      netns = "/run/netns/c1",
      args = K8S_ARGS,
      conf = {},
      signal,
      env: more = {},
    } = options;
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: containerID,
      CNI_IFNAME: ifName,
      CNI_NETNS: netns,
      CNI_ARGS: args,
      CNI_PATH: "/opt/cni/bin",
      ...more,
    };
    return execute(this.cni, env, JSON.stringify({ ...CONF, ...conf }), signal);
  }

  #logger(): Logger {
    const at = (level: string) => (fields: object, message: string) =>
      void this.logged.push({ level, message, fields });
    return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  }
}

/** What a test varies of a call. */
export interface CallOptions {
  readonly containerID?: string;
  readonly ifName?: string;
  readonly netns?: string;
  readonly args?: string;
  readonly conf?: object;
  readonly signal?: AbortSignal;
  readonly env?: Readonly<Record<string, string>>;
}

export const CONF = { cniVersion: "1.0.0", name: "k8s-pod-network", type: "gingham", ipam: { type: "gingham-ipam" } };
export const K8S_ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u1";

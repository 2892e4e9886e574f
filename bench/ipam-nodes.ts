// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import { BLOCK_AFFINITIES } from "../src/crds/block-affinity.ts";
import { CLUSTER_INFORMATIONS } from "../src/crds/cluster-information.ts";
import { IP_POOLS, type IPPoolSpec } from "../src/crds/ip-pool.ts";
import { IP_RESERVATIONS, reservedCIDRs } from "../src/crds/ip-reservation.ts";
import { IPAM_CONFIGS } from "../src/crds/ipam-config.ts";
import type { KubeObject, Resource } from "../src/crds/object.ts";
import { type Allocator, createAllocator } from "../src/ipam/allocator/allocator.ts";
import { KubeStore } from "../src/ipam/kube-store.ts";
import { type SourceObjects, sourcesOf } from "../src/ipam/sources.ts";
import type { KubeClient, ListOptions, ListResult } from "../src/kube/api.ts";
import { Informer } from "../src/kube/informer.ts";
import { connectKube } from "../src/lab/connect-kube.ts";
import { systemClock } from "../src/lib/system-clock.ts";
import type { BenchServer } from "./api-server.ts";

const CALLS = ["get", "list", "create", "update", "patch", "delete"] as const;

/** Requests to the API server, by what they are: `create ipamhandles`, `update ipamblocks/status`. No watches. */
export class RequestTally {
  readonly #counts = new Map<string, number>();

  /** The client, with every request counted, and every page of a list. */
  count(client: KubeClient): KubeClient {
    const notePage = (resource: Resource<KubeObject>): void => this.#note("list", [resource]);
    async function* listPages<T extends KubeObject>(
      resource: Resource<T>,
      options: ListOptions = {},
    ): AsyncGenerator<ListResult<T>, void, undefined> {
      for await (const page of client.listPages(resource, options)) {
        notePage(resource);
        yield page;
      }
    }
    return new Proxy(client, {
      get: (target, property) => {
        if (property === "listPages") return listPages;
        const method: unknown = Reflect.get(target, property);
        if (typeof method !== "function") return method;
        const isCall = CALLS.some((call) => call === property);
        return (...args: readonly unknown[]): unknown => {
          if (isCall) this.#note(String(property), args);
          return Reflect.apply(method, target, args);
        };
      },
    });
  }

  #note(verb: string, args: readonly unknown[]): void {
    // As in KubeClient: the resource first, the options last.
    const { plural } = args[0] as Resource<KubeObject>;
    const last = args.at(-1);
    const isStatus = typeof last === "object" && last !== null && "subresource" in last;
    const key = `${verb} ${plural}${isStatus ? "/status" : ""}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  get all(): number {
    return this.#of(/./);
  }
  get reads(): number {
    return this.#of(/^(get|list)/);
  }
  /** Of blocks themselves, not of their statuses. */
  get blockWrites(): number {
    return this.#of(/^(create|update|patch|delete) ipamblocks$/);
  }

  #of(pattern: RegExp): number {
    return [...this.#counts].filter(([key]) => pattern.test(key)).reduce((sum, [, count]) => sum + count, 0);
  }

  reset(): void {
    this.#counts.clear();
  }

  /** Most frequent first. */
  toJSON(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#counts].sort(([, a], [, b]) => b - a));
  }
}

type SimulatedServer = Pick<BenchServer, "client" | "adminKubeconfig">;

/** Allocators of many nodes in this process. Each has connections of its own; the watches are shared by all. */
export class SimulatedNodes {
  readonly tally: RequestTally = new RequestTally();
  readonly #server: SimulatedServer;
  readonly #objects: SourceObjects;
  readonly #stop: () => Promise<unknown>;
  readonly #allocators: Allocator[] = [];

  private constructor(server: SimulatedServer, objects: SourceObjects, stop: () => Promise<unknown>) {
    this.#server = server;
    this.#objects = objects;
    this.#stop = stop;
  }

  static async start(server: SimulatedServer): Promise<SimulatedNodes> {
    const shared = { client: server.client, clock: systemClock, random: Math.random };
    const onError = (error: unknown): void => void process.stderr.write(`bench: ${String(error)}\n`);
    const watch = <T extends KubeObject, P>(resource: Resource<T>, project: (object: T) => P): Informer<T, P> =>
      new Informer({ ...shared, resource, project, onError });
    const same = <T>(object: T): T => object;
    const pools = watch(IP_POOLS, same);
    const affinities = watch(BLOCK_AFFINITIES, same);
    const reservations = watch(IP_RESERVATIONS, reservedCIDRs);
    const informations = watch(CLUSTER_INFORMATIONS, same);
    const configs = watch(IPAM_CONFIGS, same);
    const informers = [pools, affinities, reservations, informations, configs];
    for (const informer of informers) informer.start();
    await Promise.all(informers.map((informer) => informer.synced));
    const objects: SourceObjects = {
      clusterInformation: () => informations.get("default"),
      ipamConfig: () => configs.get("default"),
      pools: () => [...pools.list()],
      affinities: async (since) => {
        while (since !== undefined && affinities.get(since.metadata.name) === undefined) await turn();
        return [...affinities.list()];
      },
      reservations: () => [...reservations.list()],
      nodeLabels: () => ({}),
      namespaceLabels: () => ({}),
    };
    const stop = (): Promise<unknown> => Promise.all(informers.map((informer) => informer.stop()));
    return new SimulatedNodes(server, objects, stop);
  }

  async add(nodeName: string): Promise<Allocator> {
    const client = await connectKube(this.#server.adminKubeconfig);
    const allocator = createAllocator({
      store: new KubeStore(this.tally.count(client)),
      sources: sourcesOf(this.#objects, nodeName),
      clock: systemClock,
      random: Math.random,
      nodeName,
      isResident: true,
    });
    this.#allocators.push(allocator);
    return allocator;
  }

  async close(): Promise<void> {
    for (const allocator of this.#allocators) allocator.close();
    await this.#stop();
  }
}

/** To be made before the nodes, whose watches would tell of it a moment later. */
export async function createPool(client: KubeClient, name: string, spec: IPPoolSpec): Promise<void> {
  await client.create(IP_POOLS, { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name }, spec });
}

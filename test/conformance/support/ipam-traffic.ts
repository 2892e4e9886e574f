// SPDX-License-Identifier: Apache-2.0
import { IP_POOLS } from "../../../src/crds/ip-pool.ts";
import { type Allocator, createAllocator } from "../../../src/ipam/allocator/allocator.ts";
import { IPAMError } from "../../../src/ipam/errors.ts";
import { KubeStore } from "../../../src/ipam/kube-store.ts";
import { sourcesOf } from "../../../src/ipam/sources.ts";
import { ClusterCache } from "../../../src/kube/cluster-cache.ts";
import type { Clock } from "../../../src/lib/clock.ts";
import { systemClock } from "../../../src/lib/system-clock.ts";
import { TEST_PREFIX } from "../../../src/lib/test-prefix.ts";
import { formatIP, parseIP } from "../../../src/net/ip.ts";
import type { TestServer } from "./api-servers.ts";
import { BlockHistory } from "./block-history.ts";
import { NaiveAPI } from "./naive-api.ts";
import { NaiveWriter, NoAddressError } from "./naive-writer.ts";

/** 16 blocks of four addresses: too few for all workers, so that blocks are borrowed from and taken over. */
const POOL = { cidr: "198.18.0.0/26", blockSize: 30 };
const POOL_NAME = `${TEST_PREFIX}pool`;
export const nodeOf = (part: string): string => `${TEST_PREFIX}node-${part}`;
/** What one worker holds at most. */
const MAX_HELD = 6;
/** For so many operations one node gives back more than it takes, then the next one: the others fill the pool. */
const TIDE = 250;
const NODES = ["shared", "gingham", "naive"].map(nodeOf);
/** Empty blocks count as old at once, for both writers. */
const eagerClock: Clock = { ...systemClock, nowMs: () => Date.now() + 120_000 };

/** One of the two writers on one node. */
interface Writer {
  readonly label: string;
  readonly node: string;
  /** Errors: see `isShortage`. */
  readonly assign: (handleID: string) => Promise<readonly string[]>;
  readonly assignNamed: (handleID: string, ip: string) => Promise<readonly string[]>;
  readonly release: (handleID: string, ips: readonly string[]) => Promise<void>;
  /** Something else that a node does at times. */
  readonly tidy: () => Promise<void>;
}

export interface TrafficOptions {
  readonly server: TestServer;
  /** Requests of all workers together. */
  readonly operations: number;
  readonly random: () => number;
}

/** Gingham's allocator and the naive writer on one pool, on nodes of their own and on one that they share. */
export class Traffic {
  /** What was given, and how often something rare happened. */
  readonly seen = {
    given: 0,
    short: 0,
    borrowed: 0,
    stolen: 0,
    claimed: 0,
    unclaimed: 0,
    conflicts: 0,
    reconfirmed: 0,
  };
  /** Whatever must never be. */
  readonly faults: string[] = [];
  readonly #options: TrafficOptions;
  readonly #api: NaiveAPI;
  readonly #history: BlockHistory;
  readonly #naive: readonly NaiveWriter[];
  /** Who holds an address, from the moment that it was given until its release begins. */
  readonly #ledger = new Map<string, string>();
  readonly #closers: (() => Promise<void> | void)[] = [];
  #handles = 0;
  #left: number;

  private constructor(options: TrafficOptions, api: NaiveAPI, history: BlockHistory) {
    this.#options = options;
    this.#api = api;
    this.#history = history;
    this.#left = options.operations;
    this.#naive = [nodeOf("shared"), nodeOf("naive")].map(
      (node) => new NaiveWriter({ api, node, pool: POOL, random: options.random, stealAgeMs: 0 }),
    );
  }

  static async start(options: TrafficOptions): Promise<Traffic> {
    const { client, credentials } = options.server;
    const api = new NaiveAPI({
      server: credentials.server,
      headers: await credentials.headers(),
      tls: credentials.tls(),
    });
    const metadata = { name: POOL_NAME };
    const spec = { ...POOL, nodeSelector: "!all()" };
    await client.create(IP_POOLS, { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata, spec });
    return new Traffic(options, api, await BlockHistory.start(api, POOL.cidr));
  }

  /** All workers, until the operations are used up. What they hold then stays theirs. */
  async run(): Promise<Release> {
    const writers = [
      ...(await Promise.all([nodeOf("shared"), nodeOf("gingham")].map((node) => this.#gingham(node)))),
      ...this.#naive.map(naiveWriter),
    ];
    const held = await Promise.all(
      writers.flatMap((writer) => [1, 2, 3].map(async () => ({ writer, held: await this.#work(writer) }))),
    );
    for (const { tally } of this.#naive)
      for (const [key, count] of Object.entries(tally)) this.seen[key as keyof typeof tally] += count;
    return async () => {
      for (const { writer, held: handles } of held)
        for (const [handleID, ips] of handles) await this.#release(writer, handleID, ips);
    };
  }

  /** Gives up the blocks of all nodes, which must be empty by now. */
  async releaseBlocks(): Promise<void> {
    const { random } = this.#options;
    for (const node of NODES) {
      await new NaiveWriter({ api: this.#api, node, pool: POOL, random, stealAgeMs: 0 }).releaseAffinities();
    }
  }

  /** Blocks, handles and affinities of the test that are still there. */
  async leftovers(): Promise<readonly string[]> {
    const left: string[] = [];
    for (const plural of ["ipamblocks", "ipamhandles", "blockaffinities"] as const) {
      for (const { metadata, spec } of (await this.#api.list(plural)).items) {
        const isOurs =
          "affinity" in spec ? spec.affinity?.includes(TEST_PREFIX) : metadata.name.startsWith(TEST_PREFIX);
        if (isOurs) left.push(`${plural} ${metadata.name}`);
      }
    }
    return left;
  }

  /** All versions of blocks and handles until now. To be called once. */
  async history(): Promise<BlockHistory> {
    await this.#history.stop(this.#api, `${TEST_PREFIX}last`);
    return this.#history;
  }

  async close(): Promise<void> {
    for (const close of this.#closers) await close();
    this.#api.close();
  }

  async #work(writer: Writer): Promise<ReadonlyMap<string, readonly string[]>> {
    const { random } = this.#options;
    const held = new Map<string, readonly string[]>();
    while (this.#left-- > 0) {
      const [oldest] = held;
      const dice = random();
      const isEbb = NODES[Math.floor(this.#left / TIDE) % NODES.length] === writer.node;
      if (oldest !== undefined && (held.size >= MAX_HELD || dice < (isEbb ? 0.9 : 0.2))) {
        held.delete(oldest[0]);
        await this.#release(writer, ...oldest);
      } else if (dice > 0.98) await writer.tidy();
      else {
        const handleID = `${TEST_PREFIX}net.C${this.#handles++}`;
        const ips = await this.#assign(writer, handleID, dice > 0.93);
        if (ips !== undefined) held.set(handleID, ips);
      }
    }
    return held;
  }

  async #assign(writer: Writer, handleID: string, isNamed: boolean): Promise<readonly string[] | undefined> {
    try {
      const ip = `198.18.0.${Math.floor(this.#options.random() * 64)}`;
      const ips = await (isNamed ? writer.assignNamed(handleID, ip) : writer.assign(handleID));
      for (const given of ips) {
        const holder = this.#ledger.get(given);
        if (holder !== undefined)
          this.faults.push(`${given} was given to ${handleID} of ${writer.label}, ${holder} has it`);
        this.#ledger.set(given, `${handleID} of ${writer.label}`);
      }
      this.seen.given += ips.length;
      return ips;
    } catch (error) {
      if (!isShortage(error)) this.faults.push(`${writer.label} fails to assign: ${String(error)}`);
      this.seen.short++;
      return undefined;
    }
  }

  async #release(writer: Writer, handleID: string, ips: readonly string[]): Promise<void> {
    // From here on others may get it.
    for (const ip of ips) this.#ledger.delete(ip);
    try {
      await writer.release(handleID, ips);
    } catch (error) {
      this.faults.push(`${writer.label} fails to release ${ips.join()}: ${String(error)}`);
    }
  }

  /** The allocator as an agent has it: by informers, which lag behind. */
  async #gingham(nodeName: string): Promise<Writer> {
    const { server, random } = this.#options;
    const { client } = server;
    const onError = (error: unknown): void => void this.faults.push(`${nodeName}: ${String(error)}`);
    const cache = new ClusterCache({ client, nodeName, clock: systemClock, random, onError });
    cache.start();
    await cache.allocationSynced;
    const allocator = createAllocator({
      store: new KubeStore(client),
      sources: sourcesOf(cache.ipamObjects(), nodeName),
      clock: eagerClock,
      random,
      nodeName,
      isResident: true,
      onBackgroundError: onError,
    });
    this.#closers.push(
      () => allocator.close(),
      () => cache.stop(),
    );
    return ginghamWriter(allocator, nodeName, random);
  }
}

/** Gives everything back. */
type Release = () => Promise<void>;

function ginghamWriter(allocator: Allocator, node: string, random: () => number): Writer {
  const assign = async (handleID: string, more: object): Promise<readonly string[]> => {
    const attributes = { node, pod: handleID, namespace: "default" };
    const pools = { 4: [POOL_NAME] };
    const given = await allocator.assign({ handleID, attributes, families: [4], pools, ...more });
    return given.map(({ ip }) => formatIP(ip));
  };
  return {
    label: `Gingham on ${node}`,
    node,
    assign: (handleID) => assign(handleID, random() < 0.1 ? { count: 2 } : {}),
    assignNamed: (handleID, ip) => assign(handleID, { addresses: [parseIP(ip)] }),
    release: (handleID) => allocator.releaseByHandle(handleID),
    tidy: async () => {},
  };
}

function naiveWriter(writer: NaiveWriter): Writer {
  const { node } = writer;
  return {
    label: `the naive writer on ${node}`,
    node,
    assign: async (handleID) => [await writer.autoAssign(handleID)],
    assignNamed: async (handleID, ip) => {
      await writer.assignIP(ip, handleID);
      return [ip];
    },
    release: async (handleID, [ip = ""]) => {
      // Both ways in turn; each handle has one address.
      if (Number(handleID.slice(-1)) % 2 === 0) await writer.releaseIP(ip, handleID);
      else if (!(await writer.releaseByHandle(handleID))) throw new Error(`Handle ${handleID} is gone`);
    },
    tidy: () => writer.releaseAffinities(),
  };
}

/** Nothing to be had, which is no fault in a pool so small. */
function isShortage(error: unknown): boolean {
  if (error instanceof NoAddressError) return true;
  const codes = ["NoAddress", "AddressTaken", "BlockLimit"];
  return error instanceof IPAMError && codes.includes(error.code);
}

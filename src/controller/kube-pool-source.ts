// SPDX-License-Identifier: Apache-2.0
import { CLUSTER_INFORMATION_NAME, CLUSTER_INFORMATIONS } from "../crds/cluster-information.ts";
import { InvalidObjectError } from "../crds/errors.ts";
import { HEALTHY, IP_POOLS, type IPPool, type IPPoolCondition, parseIPPool } from "../crds/ip-pool.ts";
import { IP_RESERVATIONS, reservedCIDRs } from "../crds/ip-reservation.ts";
import { IPAM_BLOCKS } from "../crds/ipam-block.ts";
import { DEFAULT_IPAM_CONFIG, IPAM_CONFIG_NAME, IPAM_CONFIGS } from "../crds/ipam-config.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import { ConflictError, NotFoundError } from "../kube/errors.ts";
import { Informer } from "../kube/informer.ts";
import { type CIDR, parseCIDR } from "../net/cidr.ts";
import { findObject, type KubeSource, type KubeSourceOptions, listAll } from "./kube-source.ts";
import type { BlockUse, ConditionsOutcome, PoolFacts, PoolSource, StoredPool } from "./ports.ts";

interface PoolObject extends KubeObject {
  readonly spec?: { readonly cidr?: unknown };
  readonly status?: IPPool["status"];
}

/** Pools as they are, since one that cannot be used is to be told so. */
const RAW_POOLS: Resource<PoolObject> = unparsed(IP_POOLS);

/** Pools and what they are judged by: read anew for each look; watched only to know when. */
export class KubePoolSource implements PoolSource {
  readonly synced: Promise<unknown>;
  readonly #options: KubeSourceOptions;
  readonly #cluster: KubeSource;
  readonly #pools: Informer<PoolObject, undefined>;
  readonly #configs: Informer<KubeObject, undefined>;

  /** @param cluster watches the nodes */
  constructor(options: KubeSourceOptions, cluster: KubeSource) {
    const { onError, ...rest } = options;
    const shared = { ...rest, project: () => undefined };
    const pools = new Informer({ ...shared, resource: RAW_POOLS, onError: (e) => onError(e, "ippools") });
    const configs = new Informer({
      ...shared,
      resource: unparsed<KubeObject>(IPAM_CONFIGS),
      onError: (e) => onError(e, "ipamconfigs"),
    });
    this.#options = options;
    this.#cluster = cluster;
    this.#pools = pools;
    this.#configs = configs;
    this.synced = Promise.all([cluster.synced, pools.synced, configs.synced]);
  }

  /** Calls the handler when pools should be judged again; `blocks` when a pool is new, changed or gone. */
  onChange(handler: (what: "blocks" | "others") => void): void {
    this.#pools.onChange(() => handler("blocks"));
    this.#configs.onChange(() => handler("others"));
    this.#cluster.onNodeChange(() => handler("others"));
  }

  start(): void {
    this.#pools.start();
    this.#configs.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#pools.stop(), this.#configs.stop()]);
  }

  async poolFacts(signal: AbortSignal): Promise<PoolFacts> {
    const { client, onError } = this.#options;
    const [information, config, pools, reservations] = await Promise.all([
      findObject(client, CLUSTER_INFORMATIONS, CLUSTER_INFORMATION_NAME, { signal }),
      findObject(client, IPAM_CONFIGS, IPAM_CONFIG_NAME, { signal }),
      client.list(RAW_POOLS, { signal }),
      client.list(IP_RESERVATIONS, { signal }),
    ]);
    for (const error of reservations.invalid) onError(error, "ipreservations");
    return {
      datastoreReady: information?.spec.datastoreReady ?? true,
      pools: pools.items.map(storedPool),
      config: config?.spec ?? DEFAULT_IPAM_CONFIG,
      nodes: [...this.#cluster.nodes()],
      reserved: reservations.items.flatMap(reservedCIDRs),
    };
  }

  async blockUses(signal: AbortSignal): Promise<readonly BlockUse[]> {
    const uses: BlockUse[] = [];
    const { client, onError } = this.#options;
    for await (const block of listAll(client, IPAM_BLOCKS, { signal })) {
      if (block instanceof InvalidObjectError) onError(block, IPAM_BLOCKS.plural);
      else if (!block.spec.deleted) {
        const { allocations, attributes } = block.spec;
        // Addresses that cool down are given back, whatever becomes of their pool.
        const inUse = allocations.filter((i) => i !== null && attributes[i]?.releasedAt === undefined).length;
        uses.push({ cidr: parseCIDR(block.spec.cidr), inUse });
      }
    }
    return uses;
  }

  async writeConditions(
    { name, object }: StoredPool,
    conditions: readonly IPPoolCondition[],
    signal: AbortSignal,
  ): Promise<ConditionsOutcome> {
    const { client } = this.#options;
    const { status }: PoolObject = object;
    try {
      const wanted = { ...object, status: { ...status, conditions } };
      const written = await client.update(RAW_POOLS, wanted, { subresource: "status", signal });
      // A schema that does not know conditions takes them, and drops them.
      const isKept = written.status?.conditions?.some(({ type }) => type === HEALTHY) ?? false;
      return isKept ? "ok" : "unsupported";
    } catch (error) {
      if (error instanceof ConflictError) return "conflict";
      if (!(error instanceof NotFoundError)) throw error;
    }
    // Either the pool is gone or the kind has no status: the same 404 says both.
    const found = await findObject(client, RAW_POOLS, name, { signal });
    return found === undefined ? "gone" : "unsupported";
  }
}

function unparsed<T extends KubeObject>({
  group,
  version,
  kind,
  plural,
  namespaced,
}: Resource<KubeObject>): Resource<T> {
  return { group, version, kind, plural, namespaced };
}

function storedPool(object: PoolObject): StoredPool {
  const { name } = object.metadata;
  // Written under the schema; whatever else may be there is nobody's condition.
  const conditions = object.status?.conditions ?? [];
  const cidr = cidrOf(object.spec?.cidr);
  const stored = { name, object, conditions, ...(cidr !== undefined && { cidr }) };
  try {
    return { ...stored, pool: parseIPPool(object) };
  } catch (error) {
    if (error instanceof InvalidObjectError) return { ...stored, error };
    throw error;
  }
}

function cidrOf(text: unknown): CIDR | undefined {
  try {
    return typeof text === "string" ? parseCIDR(text) : undefined;
  } catch {
    return undefined;
  }
}

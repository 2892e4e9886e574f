// SPDX-License-Identifier: Apache-2.0
import { BLOCK_AFFINITIES, type BlockAffinity } from "../crds/block-affinity.ts";
import { CLUSTER_INFORMATION_NAME, CLUSTER_INFORMATIONS } from "../crds/cluster-information.ts";
import { NAMESPACES, NODES } from "../crds/core.ts";
import { InvalidObjectError } from "../crds/errors.ts";
import { IP_POOLS } from "../crds/ip-pool.ts";
import { IP_RESERVATIONS, reservedCIDRs } from "../crds/ip-reservation.ts";
import { IPAM_BLOCKS, type IPAMBlock, type IPAMBlockStatus } from "../crds/ipam-block.ts";
import { IPAM_CONFIG_NAME, IPAM_CONFIGS } from "../crds/ipam-config.ts";
import { IPAM_HANDLES } from "../crds/ipam-handle.ts";
import { affinitySelector } from "../crds/labels.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import type { KubeClient } from "../kube/api.ts";
import { BlockSchema } from "../kube/block-schema.ts";
import {
  AlreadyExistsError,
  ConflictError,
  NotFoundError,
  ServerError,
  TooManyRequestsError,
  UnreachableError,
} from "../kube/errors.ts";
import { deleteTombstoned, getLive } from "../kube/tombstone.ts";
import { parseCIDR } from "../net/cidr.ts";
import type { Labels } from "../selector/selector.ts";
import { isHostAffinityOf } from "./affinity.ts";
import { IPAMError } from "./errors.ts";
import type {
  CreateOutcome,
  DeleteOutcome,
  IPAMStore,
  Refused,
  StatusOutcome,
  StoredKind,
  StoredKinds,
  Unknown,
  UpdateOutcome,
} from "./ports.ts";
import type { SourceObjects } from "./sources.ts";

const RESOURCES: { readonly [K in StoredKind]: Resource<StoredKinds[K]> } = {
  block: IPAM_BLOCKS,
  handle: IPAM_HANDLES,
  affinity: BLOCK_AFFINITIES,
};

/** A page is in memory as a whole, and a block is large: reading 5,120 of them peaks 100 MB lower than with 500, and hardly higher than with 25. */
const PAGE_SIZE = 50;

/** Allocation's datastore is the Kubernetes API. */
export class KubeStore implements IPAMStore {
  readonly #client: KubeClient;
  readonly #onInvalid: (error: InvalidObjectError) => void;

  /** @param onInvalid hears of objects that a list had to leave out, each time. */
  constructor(client: KubeClient, onInvalid: (error: InvalidObjectError) => void = () => {}) {
    this.#client = client;
    this.#onInvalid = onInvalid;
  }

  async get<K extends StoredKind>(kind: K, name: string): Promise<StoredKinds[K] | undefined> {
    const resource: Resource<StoredKinds[K]> = RESOURCES[kind];
    return await read(`read ${resource.kind} ${name}`, () => getLive(this.#client, resource, name));
  }

  async *pages<K extends StoredKind>(kind: K): AsyncGenerator<readonly StoredKinds[K][], void, undefined> {
    const resource: Resource<StoredKinds[K]> = RESOURCES[kind];
    try {
      for await (const { items, invalid } of this.#client.listPages(resource, { limit: PAGE_SIZE })) {
        for (const error of invalid) this.#onInvalid(error);
        yield items;
      }
    } catch (error) {
      throw readError(`list ${resource.plural}`, error);
    }
  }

  async create<K extends StoredKind>(kind: K, object: StoredKinds[K]): Promise<CreateOutcome<StoredKinds[K]>> {
    try {
      return { kind: "ok", object: await this.#client.create<StoredKinds[K]>(RESOURCES[kind], object) };
    } catch (error) {
      return error instanceof AlreadyExistsError ? { kind: "exists" } : failureOf(error);
    }
  }

  async update<K extends StoredKind>(kind: K, object: StoredKinds[K]): Promise<UpdateOutcome<StoredKinds[K]>> {
    try {
      return { kind: "ok", object: await this.#client.update<StoredKinds[K]>(RESOURCES[kind], object) };
    } catch (error) {
      return updateFailureOf(error);
    }
  }

  async delete<K extends StoredKind>(kind: K, object: StoredKinds[K]): Promise<DeleteOutcome> {
    try {
      const { kind: outcome } = await deleteTombstoned<StoredKinds[K]>(this.#client, RESOURCES[kind], object);
      return outcome === "conflict" ? { kind: "conflict" } : { kind: "ok" };
    } catch (error) {
      return failureOf(error);
    }
  }

  async updateBlockStatus(block: IPAMBlock, status: IPAMBlockStatus): Promise<StatusOutcome> {
    try {
      const object = await this.#client.update(IPAM_BLOCKS, { ...block, status }, { subresource: "status" });
      return { kind: "ok", object };
    } catch (error) {
      if (!(error instanceof NotFoundError)) return updateFailureOf(error);
    }
    // Either the block is gone or the kind has no status: the same 404 says both.
    try {
      const isThere = (await this.get("block", block.metadata.name)) !== undefined;
      return isThere ? { kind: "unsupported" } : { kind: "notFound" };
    } catch (error) {
      return failureOf(error);
    }
  }
}

/** What allocation reads, straight from the API: for a process that ends with its request. */
export function listedObjects(client: KubeClient, nodeName: string): SourceObjects {
  const all = async <T extends KubeObject>(resource: Resource<T>, labelSelector?: string): Promise<readonly T[]> => {
    const options = labelSelector === undefined ? {} : { labelSelector };
    return await read(`list ${resource.plural}`, async () => (await client.list(resource, options)).items);
  };
  const one = async <T extends KubeObject>(resource: Resource<T>, name: string): Promise<T | undefined> => {
    return await read(`read ${resource.kind} ${name}`, async () => {
      try {
        return await client.get(resource, name);
      } catch (error) {
        if (error instanceof NotFoundError) return undefined;
        throw error;
      }
    });
  };
  const schema = new BlockSchema({ client, clock: { nowMs: () => performance.now() }, onMissing: () => {} });
  return {
    clusterInformation: () => one(CLUSTER_INFORMATIONS, CLUSTER_INFORMATION_NAME),
    ipamConfig: () => one(IPAM_CONFIGS, IPAM_CONFIG_NAME),
    pools: () => all(IP_POOLS),
    affinities: async (since) => {
      if (since !== undefined) return await all<BlockAffinity>(BLOCK_AFFINITIES);
      const labelled = await all(BLOCK_AFFINITIES, affinitySelector(nodeName));
      if (labelled.length > 0) return labelled;
      // A node of an old release has affinities without labels, which only the whole list shows.
      return (await all<BlockAffinity>(BLOCK_AFFINITIES)).filter((affinity) => isHostAffinityOf(affinity, nodeName));
    },
    blocks: async () => {
      const live = (await all(IPAM_BLOCKS)).filter(({ spec }) => !spec.deleted);
      return live.map((block) => parseCIDR(block.spec.cidr));
    },
    reservations: async () => (await all(IP_RESERVATIONS)).map(reservedCIDRs),
    nodeLabels: async () => labelsOf(await one(NODES, nodeName)),
    namespaceLabels: async (namespace) => labelsOf(await one(NAMESPACES, namespace)),
    keepsReleasedAt: () => schema.keepsReleasedAt(),
  };
}

function labelsOf(object: KubeObject | undefined): Labels | undefined {
  return object && (object.metadata.labels ?? {});
}

async function read<T>(what: string, fn: () => Promise<T>): Promise<T> {
  try {
    return await fn();
  } catch (error) {
    throw readError(what, error);
  }
}

function readError(what: string, cause: unknown): IPAMError {
  if (cause instanceof InvalidObjectError)
    return new IPAMError("BrokenObject", `Cannot ${what}: it is damaged; correct or delete it`, { cause });
  return new IPAMError("Datastore", `Cannot ${what}; check that the API server answers this account`, { cause });
}

function updateFailureOf(error: unknown): Exclude<UpdateOutcome<never>, { readonly kind: "ok" }> {
  if (error instanceof ConflictError) return { kind: "conflict" };
  return error instanceof NotFoundError ? { kind: "notFound" } : failureOf(error);
}

function failureOf(thrown: unknown): Unknown | Refused {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  // An answer that cannot be parsed comes after the write was taken.
  const isOpen =
    error instanceof UnreachableError || error instanceof ServerError || error instanceof InvalidObjectError;
  return isOpen
    ? { kind: "unknown", error }
    : { kind: "refused", error, isBusy: error instanceof TooManyRequestsError };
}

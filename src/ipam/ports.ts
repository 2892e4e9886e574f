// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { EffectiveIPPool } from "../crds/ip-pool.ts";
import type { IPAMBlock, IPAMBlockStatus } from "../crds/ipam-block.ts";
import type { IPAMHandle } from "../crds/ipam-handle.ts";
import type { CIDR } from "../net/cidr.ts";
import type { IP } from "../net/ip.ts";
import type { Labels } from "../selector/selector.ts";

/** The three kinds that allocation writes. */
export interface StoredKinds {
  readonly block: IPAMBlock;
  readonly handle: IPAMHandle;
  readonly affinity: BlockAffinity;
}
export type StoredKind = keyof StoredKinds;

/** No answer that can be trusted came: the write may have been taken, or may be taken yet. Read again. */
export interface Unknown {
  readonly kind: "unknown";
  readonly error: Error;
}
/** The server said no, and took nothing. */
export interface Refused {
  readonly kind: "refused";
  readonly error: Error;
  /** It sheds load, and would refuse any other write, too. Otherwise the object or the right to write it is wrong. */
  readonly isBusy: boolean;
}
export interface Written<T> {
  readonly kind: "ok";
  /** As stored now, with its new resourceVersion. */
  readonly object: T;
}

export type CreateOutcome<T> = Written<T> | { readonly kind: "exists" } | Unknown | Refused;
export type UpdateOutcome<T> =
  | Written<T>
  | { readonly kind: "conflict" }
  | { readonly kind: "notFound" }
  | Unknown
  | Refused;
/** `ok` also when it was gone already. */
export type DeleteOutcome = { readonly kind: "ok" } | { readonly kind: "conflict" } | Unknown | Refused;
/** `unsupported`: the installed CRD has no status, so do not try again. */
export type StatusOutcome = UpdateOutcome<IPAMBlock> | { readonly kind: "unsupported" };

/**
 * The datastore as allocation needs it: compare-and-swap on single objects, and nothing more.
 *
 * Errors: reads reject with IPAMError `Datastore`; writes never reject, their outcome says all.
 */
export interface IPAMStore {
  /**
   * The object, or undefined. A tombstone is never returned: its deletion is finished first, and then it is not there.
   */
  get<K extends StoredKind>(kind: K, name: string): Promise<StoredKinds[K] | undefined>;
  /**
   * Everything, tombstones included, page by page: there may be ten thousand blocks, of which nobody needs more than one
   * page at a time.
   */
  pages<K extends StoredKind>(kind: K): AsyncIterable<readonly StoredKinds[K][]>;
  create<K extends StoredKind>(kind: K, object: StoredKinds[K]): Promise<CreateOutcome<StoredKinds[K]>>;
  /** Compare-and-swap by the object's resourceVersion. */
  update<K extends StoredKind>(kind: K, object: StoredKinds[K]): Promise<UpdateOutcome<StoredKinds[K]>>;
  /** In two steps: the tombstone by compare-and-swap, then the deletion by UID. Source: calico-interop 1.5. */
  delete<K extends StoredKind>(kind: K, object: StoredKinds[K]): Promise<DeleteOutcome>;
  /** Writes the status subresource; the resourceVersion moves, the spec does not. */
  updateBlockStatus(block: IPAMBlock, status: IPAMBlockStatus): Promise<StatusOutcome>;
}

export type Awaitable<T> = T | Promise<T>;

/**
 * The addresses that automatic assignment leaves alone. Asking for one by name, and giving it back, stay possible.
 *
 * Source: calico-interop 1.3 and 1.7.
 */
export interface Reservations {
  has(ip: IP): boolean;
  /** Tells which ordinals of a block are reserved; undefined when none is, as of nearly every block. */
  of(block: CIDR): ((ordinal: number) => boolean) | undefined;
  /** Whether every address of a network is reserved, by one reservation or by several together. */
  covers(network: CIDR): boolean;
  /** The widest single reservation that holds the whole network, so that a walk can step over all of it at once. */
  widest(network: CIDR): CIDR | undefined;
}

/** What the whole cluster is set to. Absent objects mean the defaults. */
export interface IPAMSettings {
  /** ClusterInformation `default`, `datastoreReady`: false while somebody migrates the datastore. */
  readonly datastoreReady: boolean;
  /** IPAMConfig `default`. */
  readonly autoAllocateBlocks: boolean;
  /** Never assign an address out of another node's block. */
  readonly strictAffinity: boolean;
  /** How many blocks of a family a node may own; 0 leaves the built-in limit. */
  readonly maxBlocksPerHost: number;
  /**
   * `ipCooldownSeconds`: how old a block's record of a release must be before the address is free; 0 as well where the
   * installed IPAMBlock CRD is known to drop such records. Units: milliseconds.
   */
  readonly ipCooldownMs: number;
  /** Releases leave such a record: a cooldown is set, and the CRD keeps it. Source: calico-interop 0, danger. */
  readonly recordsReleases: boolean;
}

/**
 * What allocation reads besides the objects that it writes. In the agent informers answer at once; standalone lists.
 *
 * Errors: IPAMError `Datastore`.
 */
export interface IPAMSources {
  settings(): Awaitable<IPAMSettings>;
  /** All pools, also those that are not enabled: their addresses are still theirs. */
  pools(): Awaitable<readonly EffectiveIPPool[]>;
  /** This node's affinities, in any state, in the order of their names. */
  ownAffinities(): Awaitable<readonly BlockAffinity[]>;
  /**
   * Networks of all blocks and affinities that are known.
   *
   * @param since a claim of this node: the answer must be of a moment after it was written, and hold every claim that was
   *   written before it
   */
  knownBlocks(since?: BlockAffinity): Awaitable<readonly CIDR[]>;
  /** There are no others. Otherwise blocks without an affinity are missing. */
  readonly knowsAllBlocks: boolean;
  /** What automatic assignment leaves alone. The same object as before while nothing has changed. */
  reservations(): Awaitable<Reservations>;
  /** This node's labels; undefined when the API server does not know the node. */
  nodeLabels(): Awaitable<Labels | undefined>;
  /** A namespace's labels; undefined when there is no such namespace. */
  namespaceLabels(namespace: string): Awaitable<Labels | undefined>;
}

// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../crds/core.ts";
import type { CalcState } from "./calc/state.ts";
import type { FelixOptions } from "./felix-options.ts";
import type { Source, WorkloadEndpoint } from "./ports.ts";

/** What an earlier process has borrowed routes for is kept until they are known, and at most so long. Units: milliseconds. */
const BORROWED_GRACE_MS = 60_000;

type InputsOptions = Pick<
  FelixOptions,
  "nodeName" | "sources" | "clock" | "configured" | "nodeAddress" | "packetFilter"
>;

/** Feeds the calculation, and the packet filter's, from the sources, and knows what is still missing. */
export class Inputs {
  readonly #options: InputsOptions;
  readonly #state: CalcState;
  readonly #onChange: () => void;
  readonly #stops: (() => void)[] = [];
  #localNode: Node | undefined;
  #isConfigured: boolean;
  #borrowedDueMs = 0;

  /** @param onChange called after each piece of news */
  constructor(options: InputsOptions, state: CalcState, onChange: () => void) {
    this.#options = options;
    this.#state = state;
    this.#onChange = onChange;
    this.#isConfigured = options.configured === undefined;
  }

  /** What has to be known before anything is written. */
  get waitingFor(): readonly string[] {
    return [...(this.#isConfigured ? [] : ["settings"]), ...this.#state.waitingFor];
  }

  /** This node's own object. */
  get localNode(): Node | undefined {
    return this.#localNode;
  }

  /** Until when routes that may be those of borrowed addresses are left alone. Units: Unix milliseconds. */
  get borrowedDueMs(): number {
    return this.#borrowedDueMs;
  }

  setEndpoint(endpoint: WorkloadEndpoint): void {
    this.#state.setEndpoint(endpoint);
    this.#filter?.state.setEndpoint(endpoint);
    this.#filter?.wake();
  }

  deleteEndpoint(key: string): void {
    this.#state.deleteEndpoint(key);
    this.#filter?.state.deleteEndpoint(key);
    this.#filter?.wake();
  }

  /** Begins to follow the sources. All recorded endpoints have been set. */
  start(): void {
    const state = this.#state;
    const { sources, clock, configured } = this.#options;
    state.markSynced("endpoints");
    this.#follow(sources.nodes, {
      onSet: (node) => this.#setNode(node),
      onDelete: (name) => {
        state.deleteNode(name);
        this.#filter?.state.deleteNode(name);
      },
      onSynced: () => state.markSynced("nodes"),
    });
    this.#follow(sources.affinities, {
      onSet: (affinity) => state.setAffinity(affinity),
      onDelete: (name) => state.deleteAffinity(name),
      onSynced: () => state.markSynced("affinities"),
    });
    this.#follow(sources.pools, {
      onSet: (pool) => {
        state.setPool(pool);
        this.#filter?.state.setPool(pool);
      },
      onDelete: (name) => {
        state.deletePool(name);
        this.#filter?.state.deletePool(name);
      },
      onSynced: () => state.markSynced("pools"),
    });
    if (sources.borrowed !== undefined) {
      this.#borrowedDueMs = clock.nowMs() + BORROWED_GRACE_MS;
      this.#follow(sources.borrowed, {
        onSet: ({ name, addresses }) => state.setBorrowed(name, addresses),
        onDelete: (name) => state.deleteBorrowed(name),
        onSynced: () => {
          this.#borrowedDueMs = 0;
        },
      });
    }
    void configured?.then(() => {
      this.#isConfigured = true;
      this.#noteSynced();
    });
  }

  stop(): void {
    for (const stop of this.#stops.splice(0)) stop();
  }

  get #filter(): FelixOptions["packetFilter"] {
    return this.#options.packetFilter;
  }

  /** Takes what a source has, and each change after it. Doubled news does no harm. */
  #follow<T>(
    source: Source<T>,
    {
      onSet,
      onDelete,
      onSynced,
    }: { onSet: (object: T) => void; onDelete: (name: string) => void; onSynced: () => void },
  ): void {
    const stop = source.onChange((change) => {
      if (change.new === undefined) onDelete(change.key);
      else onSet(change.new);
      this.#filter?.wake();
      this.#onChange();
    });
    this.#stops.push(stop);
    for (const object of source.list()) onSet(object);
    void source.synced.then(() => {
      onSynced();
      this.#noteSynced();
    });
  }

  #setNode(node: Node): void {
    if (node.metadata.name === this.#options.nodeName) {
      this.#localNode = node;
      this.#options.nodeAddress?.onNode(node);
    }
    this.#state.setNode(node);
    this.#filter?.state.setNode(node);
  }

  #noteSynced(): void {
    if (this.waitingFor.length === 0) this.#filter?.markSynced();
    this.#onChange();
  }
}

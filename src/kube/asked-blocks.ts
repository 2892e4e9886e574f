// SPDX-License-Identifier: Apache-2.0
import { InvalidObjectError } from "../crds/errors.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../crds/ipam-block.ts";
import type { KubeClient } from "./api.ts";
import { NotFoundError } from "./errors.ts";

/** Read in one turn. */
const READS_A_TURN = 20;

export interface AskedBlocksOptions {
  readonly client: KubeClient;
  /** What a block is now; undefined: gone. */
  readonly onRead: (name: string, block: IPAMBlock | undefined) => void;
  readonly onError: (error: unknown) => void;
}

/** Names of blocks that are to be read by themselves, without a listing of all. A read that fails is tried again. */
export class AskedBlocks {
  readonly #options: AskedBlocksOptions;
  readonly #names = new Set<string>();

  constructor(options: AskedBlocksOptions) {
    this.#options = options;
  }

  ask(name: string): void {
    this.#names.add(name);
  }

  clear(): void {
    this.#names.clear();
  }

  /** Reads some of them. @param isKnown true once somebody else tells all that could be read here */
  async read(signal: AbortSignal, isKnown: () => boolean): Promise<void> {
    const { client, onRead, onError } = this.#options;
    for (const name of [...this.#names].slice(0, READS_A_TURN)) {
      if (isKnown()) break;
      this.#names.delete(name);
      try {
        onRead(name, await client.get(IPAM_BLOCKS, name, { signal }));
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof NotFoundError) onRead(name, undefined);
        else {
          onError(error);
          if (error instanceof InvalidObjectError) continue;
          // The server is away, most likely: the others would wait as long for nothing.
          this.#names.add(name);
          break;
        }
      }
    }
    if (isKnown()) this.clear();
  }
}

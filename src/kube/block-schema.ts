// SPDX-License-Identifier: Apache-2.0
import { CUSTOM_RESOURCE_DEFINITIONS, declaresReleasedAt, IPAM_BLOCK_CRD_NAME } from "../crds/installed-crd.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeClient } from "./api.ts";

/** Somebody may install Calico's older CRDs over newer ones at any time. */
const FRESH_MS = 300_000;
/** An ADD or a DEL waits for the answer. */
const TIMEOUT_MS = 2_000;

export interface BlockSchemaOptions {
  readonly client: KubeClient;
  readonly clock: Pick<Clock, "nowMs">;
  /** Hears once, until it changes, that the schema lacks the field, or why it could not be read. */
  readonly onMissing: (why: unknown) => void;
}

/** What the installed IPAMBlock CRD keeps of what is written. Read when asked, at most every few minutes. */
export class BlockSchema {
  readonly #options: BlockSchemaOptions;
  #last: { readonly atMs: number; readonly keeps: Promise<boolean | undefined> } | undefined;
  #isReported = false;

  constructor(options: BlockSchemaOptions) {
    this.#options = options;
  }

  /** Whether it has `releasedAt`; undefined when it cannot be read. Never rejects. */
  async keepsReleasedAt(): Promise<boolean | undefined> {
    const nowMs = this.#options.clock.nowMs();
    if (this.#last === undefined || nowMs - this.#last.atMs >= FRESH_MS)
      this.#last = { atMs: nowMs, keeps: this.#read() };
    return await this.#last.keeps;
  }

  async #read(): Promise<boolean | undefined> {
    const { client } = this.#options;
    try {
      const options = { timeoutMs: TIMEOUT_MS };
      const keeps = declaresReleasedAt(await client.get(CUSTOM_RESOURCE_DEFINITIONS, IPAM_BLOCK_CRD_NAME, options));
      if (keeps) this.#isReported = false;
      else this.#report(`CustomResourceDefinition ${IPAM_BLOCK_CRD_NAME} has no releasedAt in spec.attributes`);
      return keeps;
    } catch (error) {
      this.#report(error);
      return undefined;
    }
  }

  #report(why: unknown): void {
    if (!this.#isReported) this.#options.onMissing(why);
    this.#isReported = true;
  }
}

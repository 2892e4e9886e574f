// SPDX-License-Identifier: Apache-2.0
import type { KubeObject } from "../crds/object.ts";
import { ForbiddenError, NotFoundError } from "./errors.ts";
import { type Change, Informer, type InformerOptions } from "./informer.ts";

/**
 * An informer of a kind that need not be there. While the server does not know the kind, or does not show it, nothing is
 * known of it, and `synced` is fulfilled nevertheless; the objects come when the server has changed its mind.
 */
export class OptionalInformer<T extends KubeObject, P> {
  /** Fulfilled when the first list is here, or none can be had. */
  readonly synced: Promise<void>;
  /** Fulfilled after the first answer, or the first failure of whatever kind. */
  readonly firstTry: Promise<void>;
  readonly #informer: Informer<T, P>;
  #unreadable: string | undefined;

  constructor(options: InformerOptions<T, P>) {
    const settled = Promise.withResolvers<void>();
    const tried = Promise.withResolvers<void>();
    this.synced = settled.promise;
    this.firstTry = tried.promise;
    this.#informer = new Informer({
      ...options,
      onError: (error) => {
        const isAway = !this.#informer.hasSynced && (error instanceof NotFoundError || error instanceof ForbiddenError);
        tried.resolve();
        if (!isAway) {
          options.onError?.(error);
          return;
        }
        // A kind that is not installed is nobody's mistake.
        if (error instanceof ForbiddenError) this.#unreadable = error.message;
        settled.resolve();
      },
    });
    void this.#informer.synced.then(() => {
      this.#unreadable = undefined;
      settled.resolve();
      tried.resolve();
    });
  }

  /** What the server said when it refused; undefined while there is nothing to complain of. */
  get unreadable(): string | undefined {
    return this.#unreadable;
  }

  get hasSynced(): boolean {
    return this.#informer.hasSynced;
  }

  start(): void {
    this.#informer.start();
  }

  async stop(): Promise<void> {
    await this.#informer.stop();
  }

  list(): IterableIterator<P> {
    return this.#informer.list();
  }

  onChange(handler: (change: Change<P>) => void): () => void {
    return this.#informer.onChange(handler);
  }
}

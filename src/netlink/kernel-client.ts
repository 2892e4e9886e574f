// SPDX-License-Identifier: Apache-2.0
import { Worker } from "node:worker_threads";
import { KernelWorkerError } from "./errors.ts";
import { type Call, type Changes, type KernelCalls, unpackError, type WorkerMessage } from "./rpc.ts";

interface Pending {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

/** The main thread's side of one worker. After it died or was closed, every call rejects. */
export class KernelClient {
  readonly ready: Promise<void>;
  readonly #name: string;
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners: { readonly [T in keyof Changes]: Set<(change: Changes[T]) => void> } = {
    routes: new Set(),
    tables: new Set(),
  };
  readonly #onFatal: (error: KernelWorkerError) => void;
  readonly #started = Promise.withResolvers<void>();
  #nextID = 1;
  #isReady = false;
  #isClosing = false;
  #ended: Error | undefined;

  constructor(name: string, url: URL, onFatal: (error: KernelWorkerError) => void) {
    this.#name = name;
    this.#onFatal = onFatal;
    this.ready = this.#started.promise;
    this.#worker = new Worker(url, { name: `gingham-${name}`, trackUnmanagedFds: false });
    this.#worker.on("message", (message: WorkerMessage) => this.#onMessage(message));
    this.#worker.on("error", (cause) => this.#end("failed", cause));
    this.#worker.on("messageerror", (cause) => this.#end("sent what cannot be read", cause));
    this.#worker.on("exit", (code) => this.#end(`exited with code ${code}`));
  }

  call<M extends keyof KernelCalls>(method: M, ...args: Parameters<KernelCalls[M]>): ReturnType<KernelCalls[M]> {
    const { promise, resolve, reject } = Promise.withResolvers<never>();
    if (this.#ended !== undefined) reject(this.#ended);
    else {
      const id = this.#nextID++;
      this.#pending.set(id, { resolve, reject });
      const call: Call = { id, method, args };
      this.#worker.postMessage(call);
    }
    return promise as ReturnType<KernelCalls[M]>; // The worker runs the method of the same name.
  }

  watch<T extends keyof Changes>(topic: T, onChange: (change: Changes[T]) => void): () => void {
    const listeners = this.#listeners[topic];
    const listener = (change: Changes[T]): void => onChange(change);
    listeners.add(listener);
    // Whoever listens must not believe that nothing changes when nobody watches.
    if (listeners.size === 1) this.call("watch", topic).catch((error: unknown) => this.#end("cannot watch", error));
    return () => {
      if (listeners.delete(listener) && listeners.size === 0) this.call("unwatch", topic).catch(() => {});
    };
  }

  /** It died, or never started. */
  get hasEnded(): boolean {
    return this.#ended !== undefined;
  }

  /** Lets the calls under way finish. */
  async close(): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    if (this.#isReady) await this.call("close").catch(() => {});
    await this.#worker.terminate();
  }

  #onMessage(message: WorkerMessage): void {
    switch (message.kind) {
      case "ready":
        this.#isReady = true;
        this.#started.resolve();
        return;
      case "result":
        this.#take(message.id)?.resolve(message.value as never); // See call().
        return;
      case "error":
        this.#take(message.id)?.reject(unpackError(message.error));
        return;
      case "change":
        this.#tell(message);
        return;
      default:
        message satisfies never;
    }
  }

  #tell(message: Extract<WorkerMessage, { readonly kind: "change" }>): void {
    if (message.topic === "routes") for (const listener of this.#listeners.routes) listener(message.change);
    else for (const listener of this.#listeners.tables) listener(message.change);
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  #end(how: string, cause?: unknown): void {
    if (this.#ended !== undefined) return;
    const ended = new KernelWorkerError(`Kernel worker ${this.#name} ${this.#isClosing ? "was closed" : how}`, {
      cause,
    });
    this.#ended = ended;
    for (const { reject } of this.#pending.values()) reject(ended);
    this.#pending.clear();
    this.#started.reject(ended);
    if (this.#isReady && !this.#isClosing) this.#onFatal(ended);
  }
}

/** A node that has not deleted a pod for so long is at rest. */
const IDLE_MS = 10_000;

/**
 * A worker that is there at the start, ended when it has had no call for a while, and started again for the next one: a
 * thread with its own heap is eight megabytes, and starting it takes some 40 ms. A start that fails rejects the calls that
 * wait for it; the next one tries again.
 */
export class OnDemandClient {
  readonly #start: () => KernelClient;
  readonly #idleMs: number;
  #client: KernelClient | undefined;
  /** Under way. */
  readonly #calls = new Set<Promise<unknown>>();
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(start: () => KernelClient, idleMs: number = IDLE_MS) {
    this.#start = start;
    this.#idleMs = idleMs;
    this.#started();
    this.#restLater();
  }

  call<M extends keyof KernelCalls>(method: M, ...args: Parameters<KernelCalls[M]>): ReturnType<KernelCalls[M]> {
    clearTimeout(this.#timer);
    const call = this.#isClosed ? rejected<M>() : this.#started().call(method, ...args);
    this.#calls.add(call);
    const onEnd = (): void => {
      this.#calls.delete(call);
      if (this.#calls.size === 0 && !this.#isClosed) this.#restLater();
    };
    call.then(onEnd, onEnd);
    return call;
  }

  /** Lets the calls under way finish. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await Promise.allSettled(this.#calls);
    await this.#client?.close();
  }

  #started(): KernelClient {
    if (this.#client === undefined || this.#client.hasEnded) this.#client = this.#start();
    return this.#client;
  }

  #restLater(): void {
    this.#timer = setTimeout(() => void this.#rest(), this.#idleMs).unref();
  }

  async #rest(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    await client?.close();
  }
}

function rejected<M extends keyof KernelCalls>(): ReturnType<KernelCalls[M]> {
  const error = new KernelWorkerError("The kernel's workers were closed");
  return Promise.reject(error) as ReturnType<KernelCalls[M]>; // A rejected promise is one of any value.
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { type Backoff, backoffMs } from "../../lib/retry.ts";
import type { Logger } from "../ports.ts";
import type { AttachmentID, PodRef, WholeRecord } from "../types.ts";
import type { PodStatusListener, PodStatusMetrics, PodStatusOutcome, PodStatusStore } from "./ports.ts";
import { combine, isOfPod, type Wish, wishKey } from "./wish.ts";
import { fulfil } from "./write.ts";

/** Two of the client's 16 connections at most, also while the API server lets every call wait. */
const CONCURRENCY = 2;
/** A sandbox that goes as soon as it came costs no write, and a write keeps out of the way of its own ADD's end. */
const SETTLE_MS = 100;
/** While CNI calls never cease, writes go on beside them. */
const MAX_ASIDE_MS = 5000;
const BACKOFF: Backoff = { baseMs: 1000, maxMs: 60_000 };
/** Rights change by a person's hand. Until then one request in half to all of this time asks whether they have. */
const FORBIDDEN: Backoff = { baseMs: 300_000, maxMs: 300_000 };
/** One refusal may be about one pod, from an admission webhook; as many in a row are about all. */
const MAX_REFUSALS = 2;
/** Far more pods than a node runs: the rest is found by the next repair. */
const CAPACITY = 1024;
/** Without a reason, abort makes an error with its stack. */
const OVER = "over";

export interface PodStatusQueueOptions {
  readonly store: PodStatusStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
  readonly metrics?: PodStatusMetrics;
}

interface Entry {
  readonly wish: Wish;
  /** Not begun earlier. Units: Unix milliseconds. */
  readonly dueMs: number;
  /** Tries that failed. */
  readonly failures: number;
  /** Why the last one did. */
  readonly trouble?: Trouble;
}

type Trouble = "failed" | "forbidden";

/**
 * Writes the pods' annotations behind the calls that changed them. Nobody waits for it, and it gives way to CNI calls:
 * their own writes to the API server come first.
 *
 * Invariants: one wish for each pod, the latest, and one write for each pod at a time; a wish is waiting or under way
 * until it is fulfilled or unneeded; the queue is bounded. What is lost by a crash or the bound, `repair.ts` finds.
 */
export class PodStatusQueue implements PodStatusListener {
  readonly #options: PodStatusQueueOptions;
  readonly #waiting = new Map<string, Entry>();
  readonly #underWay = new Set<string>();
  readonly #stop = new AbortController();
  #calls = 0;
  #pausedUntilMs = 0;
  #refusals = 0;
  #timer: { readonly atMs: number; readonly nap: AbortController } | undefined;
  /** What the log has been told of, and is not over. */
  readonly #told = new Set<Trouble | "dropped">();
  #whenIdle: (() => void) | undefined;

  constructor(options: PodStatusQueueOptions) {
    this.#options = options;
  }

  attached(id: AttachmentID, { pod, result }: Pick<WholeRecord, "pod" | "result">): void {
    if (pod === undefined || !isOfPod(id)) return;
    this.#put({ pod, sandbox: { containerID: id.containerID, ips: result.ips } }, SETTLE_MS);
  }

  detached(id: AttachmentID, pod: PodRef | undefined): void {
    if (pod === undefined || !isOfPod(id)) return;
    this.#put({ pod, gone: [id.containerID] }, SETTLE_MS);
  }

  /** A wish that no call has made, for later. It gives way to any other of the same pod. @returns whether it was taken */
  repair(wish: Wish, delayMs: number): boolean {
    const key = wishKey(wish);
    if (this.#waiting.has(key) || this.#underWay.has(key) || this.#waiting.size >= CAPACITY) return false;
    this.#put(wish, delayMs);
    return true;
  }

  /** A CNI call begins. No write does until it is disposed, for 5 s at most. */
  standAside(): Disposable {
    this.#calls++;
    return {
      [Symbol.dispose]: () => {
        this.#calls--;
        // Not before the call's answer, which is about to be sent.
        if (this.#calls === 0) setImmediate(() => this.#pump());
      },
    };
  }

  /** For a process that ends: tries once what waits, in the given time at most. Never rejects. */
  async drain(withinMs: number): Promise<void> {
    const { clock, log } = this.#options;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#whenIdle = resolve;
    this.#pump();
    const timer = new AbortController();
    await Promise.race([promise, clock.sleep(withinMs, timer.signal).catch(() => {})]);
    timer.abort();
    const pods = this.#waiting.size + this.#underWay.size;
    this.#stop.abort();
    this.#timer?.nap.abort(OVER);
    if (pods > 0) log.warn({ op: "podStatus", pods }, "Pods' annotations are left as they were; an agent repairs them");
  }

  #put(wish: Wish, delayMs: number): void {
    const key = wishKey(wish);
    const dueMs = this.#options.clock.nowMs() + delayMs;
    const older = this.#waiting.get(key);
    if (older === undefined) {
      if (this.#waiting.size >= CAPACITY) this.#dropOldest();
      this.#waiting.set(key, { wish, dueMs, failures: 0 });
    } else {
      // Whoever failed keeps to the back-off.
      const sooner = older.failures > 0 ? older.dueMs : Math.min(older.dueMs, dueMs);
      this.#waiting.set(key, { ...older, wish: combine(older.wish, wish), dueMs: sooner });
    }
    this.#pump();
  }

  #dropOldest(): void {
    const [key] = this.#waiting.keys();
    if (key === undefined) return;
    this.#waiting.delete(key);
    this.#count("dropped");
    this.#tellOnce(
      "dropped",
      { op: "podStatus", pod: key },
      "Too many pods' annotations wait; the oldest is left to the next repair",
    );
  }

  /** Begins what may begin, and sees to it that somebody comes back for the rest. */
  #pump(): void {
    const nowMs = this.#options.clock.nowMs();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [key, entry] of this.#waiting) {
      if (this.#underWay.size >= CONCURRENCY) break;
      if (this.#underWay.has(key)) continue;
      const startMs = this.#startMs(entry);
      if (startMs <= nowMs) void this.#write(key, entry);
      else nextMs = Math.min(nextMs, startMs);
    }
    this.#options.metrics?.podStatusWaiting(this.#waiting.size + this.#underWay.size);
    if (this.#underWay.size === 0 && (this.#waiting.size === 0 || nextMs === Number.POSITIVE_INFINITY))
      this.#whenIdle?.();
    // Whoever is under way comes back by itself.
    if (this.#underWay.size < CONCURRENCY && Number.isFinite(nextMs)) this.#wakeAt(nextMs, nowMs);
  }

  #startMs({ dueMs, failures }: Entry): number {
    const isForbidden = this.#pausedUntilMs > this.#options.clock.nowMs();
    // The end comes: now or never.
    if (this.#whenIdle !== undefined) return failures > 0 || isForbidden ? Number.POSITIVE_INFINITY : 0;
    return Math.max(dueMs + (this.#calls > 0 ? MAX_ASIDE_MS : 0), this.#pausedUntilMs);
  }

  /** Or sooner: each call comes by here several times, and a timer that goes off for nothing costs less than another one. */
  #wakeAt(atMs: number, nowMs: number): void {
    if (this.#timer !== undefined && this.#timer.atMs <= atMs) return;
    this.#timer?.nap.abort(OVER);
    const timer = { atMs, nap: new AbortController() };
    this.#timer = timer;
    this.#options.clock.sleep(atMs - nowMs, timer.nap.signal).then(
      () => {
        this.#timer = undefined;
        this.#pump();
      },
      () => {},
    );
  }

  /** Never rejects. */
  async #write(key: string, entry: Entry): Promise<void> {
    this.#waiting.delete(key);
    this.#underWay.add(key);
    const { store } = this.#options;
    try {
      const answer = await fulfil(store, entry.wish, this.#stop.signal);
      if (answer === "conflict") this.#failed(key, entry, new Error("the pod changed under every try"));
      else this.#fulfilled(answer);
    } catch (error) {
      const right = store.missingRight(error);
      if (this.#stop.signal.aborted) return;
      if (right === undefined) this.#failed(key, entry, error);
      else this.#forbidden(key, entry, right, error);
    } finally {
      this.#underWay.delete(key);
      this.#pump();
    }
  }

  #fulfilled(answer: "written" | "unneeded"): void {
    this.#count(answer);
    if (answer === "written") this.#refusals = 0;
    for (const trouble of this.#told) {
      if (this.#isStill(trouble)) continue;
      this.#told.delete(trouble);
      if (trouble !== "dropped") this.#options.log.info({ op: "podStatus" }, "Pods' annotations are written again");
    }
  }

  #isStill(trouble: Trouble | "dropped"): boolean {
    if (trouble === "dropped") return this.#waiting.size > CAPACITY / 2;
    return this.#waiting.values().some((entry) => entry.trouble === trouble);
  }

  #failed(key: string, entry: Entry, error: unknown): void {
    const { clock, random, log } = this.#options;
    const failures = entry.failures + 1;
    const dueMs = clock.nowMs() + backoffMs(BACKOFF, failures, random());
    this.#putBack(key, { ...entry, failures, dueMs, trouble: "failed" });
    this.#count("failed");
    const { namespace, name } = entry.wish.pod;
    const fields = { op: "podStatus", namespace, pod: name, err: error };
    log.debug({ ...fields, failures }, "A pod's annotations cannot be written");
    this.#tellOnce("failed", fields, "Pods' annotations cannot be written; it is tried again. This was the first");
  }

  #forbidden(key: string, entry: Entry, right: string, error: unknown): void {
    const { clock, random } = this.#options;
    const dueMs = clock.nowMs() + backoffMs(FORBIDDEN, 1, random());
    this.#putBack(key, { ...entry, failures: entry.failures + 1, dueMs, trouble: "forbidden" });
    this.#refusals++;
    if (this.#refusals >= MAX_REFUSALS) this.#pausedUntilMs = dueMs;
    this.#count("forbidden");
    const step = "grant it (docs/install.md), or Calico's components may not see the addresses of pods";
    const fields = { op: "podStatus", err: error };
    this.#tellOnce("forbidden", fields, `Pods' annotations are not written: the account lacks ${right}; ${step}`);
  }

  /** What came in meanwhile is newer. */
  #putBack(key: string, entry: Entry): void {
    const newer = this.#waiting.get(key);
    this.#waiting.set(key, newer === undefined ? entry : { ...entry, wish: combine(entry.wish, newer.wish) });
  }

  /** Once, until it is over. */
  #tellOnce(trouble: Trouble | "dropped", fields: object, message: string): void {
    if (this.#told.has(trouble)) return;
    this.#told.add(trouble);
    this.#options.log[trouble === "forbidden" ? "error" : "warn"](fields, message);
  }

  #count(outcome: PodStatusOutcome): void {
    this.#options.metrics?.podStatus(outcome);
  }
}

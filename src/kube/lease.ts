// SPDX-License-Identifier: Apache-2.0
import { LEASES, type Lease } from "../crds/core.ts";
import type { Clock } from "../lib/clock.ts";
import { type Backoff, backoffMs } from "../lib/retry.ts";
import type { KubeClient } from "./api.ts";
import { AlreadyExistsError, ConflictError, LeadershipLostError, NotFoundError } from "./errors.ts";

export interface LeaseOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly name: string;
  /** Who we are: another one for each process. */
  readonly identity: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly onError?: (error: unknown) => void;
  /** After this long without a renewal others may take over. Units: seconds. */
  readonly leaseSeconds?: number;
}

/** Followers look, and the leader renews, this often: 2 s of 15. */
const RETRY_SHARE = 2 / 15;
/** The leader gives up before others may begin: 10 s of 15. */
const RENEW_SHARE = 10 / 15;

/**
 * Runs `lead` while we hold the Lease, and lets go of it at the end.
 *
 * Clocks of machines are never compared: a follower measures on its own clock how long the Lease has not changed. `lead`
 * gets a signal that aborts when the caller's does, or when the Lease could not be renewed in time; others may lead from
 * a moment later, so it must stop at once. Errors: LeadershipLostError; what `lead` throws.
 */
export async function runAsLeader(
  options: LeaseOptions,
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const lock = new LeaseLock(options);
  await lock.acquire(signal);
  const ended = new AbortController();
  const lost = new AbortController();
  const renewing = lock.keep(AbortSignal.any([signal, ended.signal])).catch((error: unknown) => lost.abort(error));
  try {
    await lead(AbortSignal.any([signal, lost.signal]));
    if (lost.signal.aborted) throw lost.signal.reason;
  } finally {
    ended.abort();
    await renewing;
    if (!lost.signal.aborted) await lock.release();
  }
}

/**
 * Leads whenever it is our turn, until the signal aborts; then it resolves. `onLost` hears each time that another one has
 * taken over. Errors: what `lead` throws while nothing was lost.
 */
export async function leadInTurns(
  options: LeaseOptions & { readonly onLost: (error: LeadershipLostError) => void },
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await runAsLeader(options, lead, signal);
    } catch (error) {
      if (error instanceof LeadershipLostError) options.onLost(error);
      else if (!signal.aborted) throw error;
    }
  }
}

class LeaseLock {
  readonly #options: LeaseOptions;
  readonly #leaseMs: number;
  readonly #pace: Backoff;
  /** The Lease as last seen, and when we saw it change. */
  #seen: Lease | undefined;
  #changedMs = 0;

  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#leaseMs = (options.leaseSeconds ?? 15) * 1000;
    const waitMs = this.#leaseMs * RETRY_SHARE;
    this.#pace = { baseMs: waitMs, maxMs: waitMs };
  }

  /** Resolves when the Lease is ours. Rejects with the signal's reason alone. */
  async acquire(signal: AbortSignal): Promise<void> {
    const { clock, random, onError } = this.#options;
    while (!(await this.#tryAcquire(signal).catch((error: unknown) => onError?.(error)))) {
      signal.throwIfAborted();
      await clock.sleep(backoffMs(this.#pace, 1, random()), signal);
    }
  }

  /** Renews until the signal aborts. @throws LeadershipLostError */
  async keep(signal: AbortSignal): Promise<void> {
    const { clock, random, onError } = this.#options;
    let renewedMs = clock.nowMs();
    for (;;) {
      await clock.sleep(backoffMs(this.#pace, 1, random()), signal).catch(() => {});
      if (signal.aborted) return;
      const leftMs = renewedMs + this.#leaseMs * RENEW_SHARE - clock.nowMs();
      if (leftMs <= 0) throw this.#lost("it could not be renewed in time");
      const startMs = clock.nowMs();
      try {
        // Counted from before the write: others count from when they see it, which is later.
        if (await this.#renew(leftMs, signal)) renewedMs = startMs;
        else throw this.#lost(`${this.#seen?.spec?.holderIdentity || "nobody"} holds it`);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof LeadershipLostError) throw error;
        onError?.(error);
      }
    }
  }

  /** Lets the next one take over at once. Best effort: without it the Lease runs out. */
  async release(): Promise<void> {
    if (this.#seen === undefined) return;
    try {
      await this.#overwrite(this.#seen, { holderIdentity: "", leaseDurationSeconds: 1 });
    } catch (error) {
      this.#options.onError?.(error);
    }
  }

  async #tryAcquire(signal: AbortSignal): Promise<boolean> {
    const { clock, identity } = this.#options;
    try {
      const lease = await this.#read(signal);
      const holder = lease.spec?.holderIdentity ?? "";
      const durationMs = (lease.spec?.leaseDurationSeconds ?? this.#leaseMs / 1000) * 1000;
      const isFree = holder === "" || holder === identity || clock.nowMs() >= this.#changedMs + durationMs;
      if (!isFree) return false;
      const transitions = (lease.spec?.leaseTransitions ?? 0) + (holder === identity ? 0 : 1);
      await this.#write(lease, { ...this.#ours(), acquireTime: this.#time(), leaseTransitions: transitions }, signal);
      return true;
    } catch (error) {
      if (error instanceof ConflictError || error instanceof AlreadyExistsError) return false;
      if (error instanceof NotFoundError) return await this.#create(signal);
      throw error;
    }
  }

  async #create(signal: AbortSignal): Promise<boolean> {
    const { client, name, namespace } = this.#options;
    const spec = { ...this.#ours(), acquireTime: this.#time(), leaseTransitions: 0 };
    const lease = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name, namespace }, spec };
    try {
      this.#seen = await client.create(LEASES, lease, { signal });
      return true;
    } catch (error) {
      if (error instanceof AlreadyExistsError) return false;
      throw error;
    }
  }

  /** False when somebody else holds it. */
  async #renew(timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    return this.#seen !== undefined && (await this.#overwrite(this.#seen, this.#ours(), signal, timeoutMs));
  }

  /** Writes to a Lease that is ours; false when it is somebody else's now. */
  async #overwrite(
    seen: Lease,
    spec: NonNullable<Lease["spec"]>,
    signal?: AbortSignal,
    timeoutMs?: number,
  ): Promise<boolean> {
    try {
      await this.#write(seen, spec, signal, timeoutMs);
      return true;
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error;
    }
    // Somebody wrote to it, perhaps we ourselves, by a write whose answer was lost or not waited for.
    const lease = await this.#read(signal);
    if (lease.spec?.holderIdentity !== this.#options.identity) return false;
    await this.#write(lease, spec, signal, timeoutMs);
    return true;
  }

  async #read(signal: AbortSignal | undefined): Promise<Lease> {
    const { client, clock, name, namespace } = this.#options;
    const lease = await client.get(LEASES, name, { namespace, ...(signal && { signal }) });
    if (lease.metadata.resourceVersion !== this.#seen?.metadata.resourceVersion) this.#changedMs = clock.nowMs();
    this.#seen = lease;
    return lease;
  }

  async #write(
    lease: Lease,
    spec: NonNullable<Lease["spec"]>,
    signal?: AbortSignal,
    timeoutMs?: number,
  ): Promise<void> {
    const options = { ...(signal === undefined ? {} : { signal }), ...(timeoutMs === undefined ? {} : { timeoutMs }) };
    this.#seen = await this.#options.client.update(LEASES, { ...lease, spec: { ...lease.spec, ...spec } }, options);
  }

  #ours(): NonNullable<Lease["spec"]> {
    const leaseDurationSeconds = Math.ceil(this.#leaseMs / 1000);
    return { holderIdentity: this.#options.identity, leaseDurationSeconds, renewTime: this.#time() };
  }

  /** Kubernetes' MicroTime. */
  #time(): string {
    return new Date(this.#options.clock.nowMs()).toISOString().replace("Z", "000Z");
  }

  #lost(why: string): LeadershipLostError {
    const { namespace, name, identity } = this.#options;
    return new LeadershipLostError(`${identity} lost the Lease ${namespace}/${name}: ${why}; stop and compete again`);
  }
}

// SPDX-License-Identifier: Apache-2.0

/** Time as a dependency, so that pure code and tests decide what "now" is. */
export interface Clock {
  /** Unix time, for what is due after a while; a steady clock's does not follow when somebody sets the machine's. Units: milliseconds. */
  nowMs(): number;
  /** Unix time, for what is shown or stored. Units: nanoseconds; the seed of a new block's sequence number. */
  nowNs(): bigint;
  /** Resolves after the given time, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** Unix time, for what is shown or stored. Units: milliseconds. */
export function wallMs(clock: Pick<Clock, "nowNs">): number {
  return Number(clock.nowNs() / 1_000_000n);
}

/** The same as Kubernetes writes it: RFC 3339, whole seconds. */
export function wallText(clock: Pick<Clock, "nowNs">): string {
  return `${new Date(wallMs(clock)).toISOString().slice(0, 19)}Z`;
}

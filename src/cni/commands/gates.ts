// SPDX-License-Identifier: Apache-2.0
import { CNIError } from "../errors.ts";
import { bounded, type CNI } from "./cni.ts";

/** Source: calico-interop 3.2, `readiness_gates`. Units: milliseconds. */
const INTERVAL_MS = 5000;
const PATIENCE_MS = 30_000;

/**
 * Waits until every URL answers that it is ready, one after the other: asked at once, then every 5 s, 30 s for each. Calico's
 * plugin waits 5 s before it asks for the first time, too.
 *
 * @throws CNIError `TryAgainLater`, and the signal's reason
 */
export async function waitForGates(cni: CNI, urls: readonly string[], signal: AbortSignal): Promise<void> {
  for (const url of urls) await waitForGate(cni, url, signal);
}

async function waitForGate({ clock, gate }: CNI, url: string, signal: AbortSignal): Promise<void> {
  if (gate === undefined) return;
  const deadlineMs = clock.nowMs() + PATIENCE_MS;
  for (;;) {
    const askedMs = clock.nowMs();
    const what = `Readiness gate ${url}`;
    const problem = await bounded(clock, { what, ms: INTERVAL_MS, signal }, (within) => gate(url, within)).catch(
      (error: unknown) => {
        signal.throwIfAborted();
        return error instanceof Error ? error.message : String(error);
      },
    );
    if (problem === undefined) return;
    const nextMs = askedMs + INTERVAL_MS;
    if (nextMs >= deadlineMs) {
      const step = "see who serves it, or take it out of readiness_gates";
      throw new CNIError("TryAgainLater", `${what} was not ready for ${PATIENCE_MS / 1000} s: ${problem}; ${step}`);
    }
    await clock.sleep(Math.max(0, nextMs - clock.nowMs()), signal);
  }
}

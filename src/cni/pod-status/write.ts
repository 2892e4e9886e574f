// SPDX-License-Identifier: Apache-2.0
import type { PodStatusStore } from "./ports.ts";
import { patchFor, type Wish } from "./wish.ts";

/** Source: calico-interop 3.7: five tries, then the pod waits. */
const TRIES = 5;

/**
 * Brings a pod's annotations to what is wished: one PATCH for a new sandbox, a GET before it for one that is gone. A conflict is answered by reading the pod again.
 *
 * @returns `conflict` when others wrote to the pod in between each time. Errors: of the API
 */
export async function fulfil(
  store: PodStatusStore,
  wish: Wish,
  signal: AbortSignal,
): Promise<"written" | "unneeded" | "conflict"> {
  for (let attempt = 1; attempt <= TRIES; attempt++) {
    const mustRead = wish.sandbox === undefined || attempt > 1;
    const state = mustRead ? await store.read(wish.pod, signal) : undefined;
    if (mustRead && state === undefined) return "unneeded";
    const patch = patchFor(wish, state);
    if (patch === undefined) return "unneeded";
    const answer = await store.patch(wish.pod, patch, signal);
    if (answer === "written") return "written";
    if (answer === "gone") return "unneeded";
  }
  return "conflict";
}

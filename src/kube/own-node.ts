// SPDX-License-Identifier: Apache-2.0
import { NODES } from "../crds/core.ts";
import type { Clock } from "../lib/clock.ts";
import { backoffMs } from "../lib/retry.ts";
import type { KubeClient } from "./api.ts";
import { AlreadyExistsError, NotFoundError } from "./errors.ts";

const REGISTRATION = { baseMs: 500, maxMs: 30_000 };

/**
 * Makes this machine's Node where no kubelet does, and lets one be that is there. Tries until it is done or the signal aborts;
 * `onError` hears of each failure. A Node that somebody deletes later stays away until the next start: it says that the
 * machine is gone.
 */
export async function registerNode(
  {
    client,
    clock,
    random,
    nodeName,
  }: {
    readonly client: KubeClient;
    readonly clock: Clock;
    readonly random: () => number;
    readonly nodeName: string;
  },
  onError: (error: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  const labels = { "kubernetes.io/hostname": nodeName, "kubernetes.io/os": "linux" };
  const node = { apiVersion: "v1", kind: "Node", metadata: { name: nodeName, labels } };
  for (let attempt = 1; !signal.aborted; attempt++) {
    try {
      await client.create(NODES, node, { signal });
      return;
    } catch (error) {
      if (error instanceof AlreadyExistsError || signal.aborted) return;
      onError(error);
    }
    await clock.sleep(backoffMs(REGISTRATION, attempt, random()), signal).catch(() => {});
  }
}

/**
 * Sets an annotation of the agent's own Node, or takes it off when the text is empty: by the right that an agent has on its
 * own node's status, as Calico's has. A machine without a Node object is let be. Errors: of the API.
 */
export async function annotateNode(
  client: KubeClient,
  nodeName: string,
  annotation: { readonly name: string; readonly text: string },
  signal: AbortSignal,
): Promise<void> {
  const { name, text } = annotation;
  const body = { metadata: { annotations: { [name]: text === "" ? null : text } } };
  try {
    await client.patch(NODES, nodeName, { type: "merge", body }, { subresource: "status", signal });
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { NODES } from "../crds/core.ts";
import type { KubeClient } from "./api.ts";
import { NotFoundError } from "./errors.ts";

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

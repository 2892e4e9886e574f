// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../crds/core.ts";
import { ENCAPSULATION_UNSUPPORTED, NETWORK_DEGRADED } from "../felix/calc/node-status.ts";

interface NodeCondition {
  readonly type: string;
  readonly status: string;
  readonly message?: string;
}

/** As its kubelet, or whoever waits for it, says. */
export function isNodeReady(node: Node): boolean {
  return conditionsOf(node).some(({ type, status }) => type === "Ready" && status === "True");
}

/** Nothing is heard of its kubelet. One that says itself that it is not ready may only be waiting for the network. */
export function isNodeDown(node: Node): boolean {
  return !conditionsOf(node).some(({ type, status }) => type === "Ready" && status !== "Unknown");
}

/** What the node's agent says is wrong with it; empty when nothing. */
export function troubleOf(node: Node): string {
  return conditionsOf(node)
    .filter(({ type, status }) => status === "True" && [NETWORK_DEGRADED, ENCAPSULATION_UNSUPPORTED].includes(type))
    .flatMap(({ message = "" }) => (message === "" ? [] : [message]))
    .join("; ");
}

function conditionsOf({ status }: Node): readonly NodeCondition[] {
  return (status as { readonly conditions?: readonly NodeCondition[] } | undefined)?.conditions ?? [];
}

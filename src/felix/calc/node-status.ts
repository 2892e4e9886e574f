// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import type { Family } from "../../net/ip.ts";
import { ADDRESS_ANNOTATIONS } from "./node-addresses.ts";

/** What the agent says of its node in the node's own object. */
export interface NodeClaims {
  /** `address/length` by family; empty: the node has none, and the annotation goes; a family that is absent is left as it is. */
  readonly addresses: Partial<Readonly<Record<Family, string>>>;
  /** Smallest MTU of the links between nodes, for who plans the MTU of pods. Absent: no link was found. Units: bytes. */
  readonly linkMTUBytes?: number;
  /** What is missing in this node's kernel of what pools ask for, in words. Absent: nothing. */
  readonly encapsulationUnsupported?: string;
}

export const LINK_MTU_ANNOTATION = "gingham.dev/link-mtu";

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly message?: unknown;
  readonly [field: string]: unknown;
}

export const NETWORK_UNAVAILABLE = "NetworkUnavailable";
/** There only while it is true. It keeps no pod away, since those in other pools have their network. */
export const ENCAPSULATION_UNSUPPORTED = "EncapsulationUnsupported";
/** There only while it is true: what this node's agent lacks to be ready, or what keeps pods from getting its network. */
export const NETWORK_DEGRADED = "NetworkDegraded";

/** What is wrong, as a condition of the Node has it. */
export interface NodeProblem {
  /** In CamelCase. */
  readonly reason: string;
  readonly message: string;
}

/**
 * Returns the Node with the claims in it, or undefined when it says them already.
 *
 * The annotation tells Calico's nodes of a mixed cluster where this node is and how long its subnet's prefix is.
 *
 * Source: calico-interop 4.6 (annotations, written through nodes/status).
 * @param nowText RFC 3339, whole seconds
 */
export function planNodeStatus(node: Node, claims: NodeClaims, nowText: string): Node | undefined {
  const annotations = { ...node.metadata.annotations };
  let isChanged = false;
  for (const family of [4, 6] as const) {
    const text = claims.addresses[family];
    if (text === undefined || (annotations[ADDRESS_ANNOTATIONS[family]] ?? "") === text) continue;
    if (text === "") delete annotations[ADDRESS_ANNOTATIONS[family]];
    else annotations[ADDRESS_ANNOTATIONS[family]] = text;
    isChanged = true;
  }
  const { linkMTUBytes } = claims;
  if (linkMTUBytes !== undefined && annotations[LINK_MTU_ANNOTATION] !== String(linkMTUBytes)) {
    annotations[LINK_MTU_ANNOTATION] = String(linkMTUBytes);
    isChanged = true;
  }
  const { encapsulationUnsupported: message } = claims;
  const problem = message === undefined ? undefined : { reason: "KernelWithoutIPIP", message };
  const status = withProblem(node, ENCAPSULATION_UNSUPPORTED, problem, nowText);
  if (!isChanged && status === undefined) return undefined;
  return { ...node, metadata: { ...node.metadata, annotations }, ...(status && { status }) };
}

/** Returns the Node with the condition NetworkDegraded, or without it; undefined when it is so already. */
export function planDegraded(node: Node, problem: NodeProblem | undefined, nowText: string): Node | undefined {
  const status = withProblem(node, NETWORK_DEGRADED, problem, nowText);
  return status && { ...node, status };
}

/** The status with a condition that is there only while it is true, or without it; undefined when it is so already. */
function withProblem(
  node: Node,
  type: string,
  problem: NodeProblem | undefined,
  nowText: string,
): Node["status"] | undefined {
  const conditions = conditionsOf(node);
  const previous = conditions.find((condition) => condition.type === type);
  const others = conditions.filter((condition) => condition !== previous);
  if (problem === undefined) return previous && statusWith(node, others);
  const { reason, message } = problem;
  const wasTrue = previous?.status === "True";
  if (wasTrue && previous.message === message && previous["reason"] === reason) return undefined;
  const lastTransitionTime = (wasTrue && previous["lastTransitionTime"]) || nowText;
  const times = { lastHeartbeatTime: nowText, lastTransitionTime };
  return statusWith(node, [...others, { type, status: "True", reason, message, ...times }]);
}

/**
 * Returns the Node with the condition NetworkUnavailable as it should be, or undefined when it is.
 *
 * False lets the scheduler use the node (a cloud's controller may have set it to True); True, when the agent stops, keeps
 * new pods away until the next one is ready. Whoever has said the same for a reason of his own is left alone, so that two
 * writers never fight over it.
 *
 * Source: calico-interop 4.7.
 * @param nowText RFC 3339, whole seconds
 */
export function planCondition(node: Node, isUp: boolean, nowText: string): Node | undefined {
  const conditions = conditionsOf(node);
  const status = isUp ? "False" : "True";
  if (conditions.find(({ type }) => type === NETWORK_UNAVAILABLE)?.status === status) return undefined;
  const condition: Condition = {
    type: NETWORK_UNAVAILABLE,
    status,
    reason: isUp ? "GinghamIsUp" : "GinghamIsDown",
    message: isUp ? "Gingham is running on this node" : "Gingham has stopped on this node",
    lastHeartbeatTime: nowText,
    lastTransitionTime: nowText,
  };
  const others = conditions.filter(({ type }) => type !== NETWORK_UNAVAILABLE);
  return { ...node, status: statusWith(node, [...others, condition]) };
}

function statusWith(node: Node, conditions: readonly Condition[]): NonNullable<Node["status"]> {
  return { ...node.status, ...{ conditions } };
}

/** An address that the node's object names, and that the claims name otherwise: other nodes will go to another place. */
export interface ReplacedAddress {
  readonly annotation: string;
  readonly before: string;
  readonly after: string;
  /** Which would keep it. */
  readonly variable: "IP" | "IP6";
}

/**
 * Whoever wrote the annotation before, an agent of Calico's with a method of its own or ours, is not written in it; so a
 * change of the address itself (its length is no address) is told each time.
 */
export function replacedAddresses(node: Node, claims: NodeClaims): readonly ReplacedAddress[] {
  return ([4, 6] as const).flatMap((family) => {
    const [before = ""] = (node.metadata.annotations?.[ADDRESS_ANNOTATIONS[family]] ?? "").split("/");
    const after = claims.addresses[family];
    const [ip = ""] = after?.split("/") ?? [];
    if (before === "" || after === undefined || ip === before) return [];
    const variable = family === 4 ? "IP" : "IP6";
    return [{ annotation: ADDRESS_ANNOTATIONS[family], before, after: ip || "none", variable }];
  });
}

/** Conditions are not in the type of Node, since nobody else reads them; other fields of theirs pass through. */
export function conditionsOf(node: Node): readonly Condition[] {
  const { conditions } = { conditions: undefined as unknown, ...node.status };
  return Array.isArray(conditions) ? conditions.filter(isCondition) : [];
}

function isCondition(value: unknown): value is Condition {
  return typeof value === "object" && value !== null && "type" in value && "status" in value;
}

// SPDX-License-Identifier: Apache-2.0
import type { AgentPod, NodeFacts } from "./ports.ts";

export interface RolloutInput {
  /** Of the DaemonSet's template now. */
  readonly revision: string;
  readonly pods: readonly AgentPod[];
  readonly nodes: readonly NodeFacts[];
  /** Nodes that were healthy when their pod was deleted for a change: as `changed` of the plan before. */
  readonly changed: readonly string[];
  readonly maxUnavailable: number;
}

export interface RolloutPlan {
  /** Pods to delete now. */
  readonly remove: readonly AgentPod[];
  /** To be remembered before anything is deleted; empty when all is done. */
  readonly changed: readonly string[];
  /** Nodes whose turn it is. */
  readonly current: readonly string[];
  /** Of the nodes with an agent: how many run the new revision and are ready. */
  readonly updated: number;
  readonly total: number;
  /** Nodes that were healthy before the change, and whose new agent is not ready: the others wait. */
  readonly waitsFor: readonly { readonly node: string; readonly why: string; readonly isFailing: boolean }[];
}

/** An agent may become ready and fail a moment later: so long is a node watched. */
const WATCHED = 20;

/**
 * Decides which agents are replaced next. A node holds the others back only if it was healthy before: one that was down
 * is changed at once, and nobody waits for it, since it can only get better.
 */
export function planRollout({ revision, pods, nodes, changed, maxUnavailable }: RolloutInput): RolloutPlan {
  const known = new Map(nodes.map((node) => [node.name, node]));
  const podsOf = (node: string): readonly AgentPod[] => pods.filter((pod) => pod.node === node);
  const isHealthy = (pod: AgentPod): boolean =>
    pod.isReady && !pod.isLeaving && (known.get(pod.node)?.isReady ?? false);
  const isNew = (pod: AgentPod): boolean => pod.revision === revision;
  // A node that has left the cluster is not waited for.
  const still = changed.filter((name) => known.has(name));
  // One that is healthy with an old agent has its turn yet: its change was taken back, or never begun.
  const worse = still.filter((name) => !podsOf(name).some(isHealthy));
  const old = pods.filter((pod) => !isNew(pod) && !pod.isLeaving).sort((a, b) => (a.node < b.node ? -1 : 1));
  const sick = old.filter((pod) => !isHealthy(pod));
  const next = old.filter(isHealthy).slice(0, Math.max(0, maxUnavailable - worse.length));
  const begun = next.map(({ node }) => node);
  const current = [...worse, ...begun];
  const isDone = old.length === 0 && worse.length === 0;
  return {
    remove: [...sick, ...next],
    changed: isDone ? [] : lastOf([...still.filter((name) => !begun.includes(name)), ...begun], current),
    current,
    updated: pods.filter((pod) => isNew(pod) && pod.isReady).length,
    total: pods.length,
    waitsFor: worse.map((name) => ({ node: name, ...whyNot(podsOf(name), known.get(name), revision) })),
  };
}

/** Those that were changed last, and those that matter now. */
function lastOf(changed: readonly string[], current: readonly string[]): readonly string[] {
  let surplus = changed.length - WATCHED;
  return changed.filter((name) => current.includes(name) || surplus-- <= 0);
}

function whyNot(
  pods: readonly AgentPod[],
  node: NodeFacts | undefined,
  revision: string,
): { readonly why: string; readonly isFailing: boolean } {
  const pod = pods.find((candidate) => candidate.revision === revision && !candidate.isLeaving);
  if (pod === undefined) return { why: "its new agent has not been started yet", isFailing: false };
  if (pod.trouble !== "") return { why: `its new agent ${pod.name} does not run: ${pod.trouble}`, isFailing: true };
  if (node?.isReady === false) return { why: "the node is not ready any more", isFailing: true };
  const said = node?.trouble === undefined ? "" : `: ${node.trouble}`;
  return { why: `its new agent ${pod.name} is not ready yet${said}`, isFailing: false };
}

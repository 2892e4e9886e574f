// SPDX-License-Identifier: Apache-2.0
import type { KubeObject } from "../crds/object.ts";
import { revisionOf } from "./agent-pod.ts";
import { type ApplyTools, problemOf } from "./apply.ts";
import type { AgentPod, NodeFacts, Workloads } from "./ports.ts";
import type { Problem } from "./problem.ts";
import { planRollout, type RolloutPlan } from "./rollout.ts";

/** Of the DaemonSet: the last nodes that were healthy and have been changed, so that another operator knows that they were. */
export const CHANGED_ANNOTATION = "gingham.dev/changed";

export interface RolloutState {
  readonly workloads: Workloads;
  readonly nodes: readonly NodeFacts[];
  readonly maxUnavailable: number;
}

/** Replaces the agents that are next. What it deletes, Kubernetes makes anew out of the DaemonSet's template. */
export async function applyRollout(
  { workloads, nodes, maxUnavailable }: RolloutState,
  { cluster, signal }: ApplyTools,
): Promise<{ readonly rollout: RolloutPlan | undefined; readonly problems: readonly Problem[] }> {
  const { daemonSet, pods } = workloads;
  const { observedGeneration = 0 } = daemonSet?.status ?? {};
  // Before that, a pod that is deleted could come back as it was.
  if (daemonSet === undefined || observedGeneration < (daemonSet.metadata.generation ?? 0))
    return { rollout: undefined, problems: [] };
  const remembered = daemonSet.metadata.annotations?.[CHANGED_ANNOTATION] ?? "";
  const changed = remembered.split(",").filter((name) => name !== "");
  const rollout = planRollout({ revision: revisionOf(daemonSet), pods, nodes, changed, maxUnavailable });
  const text = rollout.changed.join(",");
  if (text !== remembered) {
    const outcome = await cluster.annotate(daemonSet, { [CHANGED_ANNOTATION]: text === "" ? null : text }, signal);
    if (outcome.kind !== "ok") return { rollout, problems: [problemOf(daemonSet, outcome)] };
  }
  const problems: Problem[] = [];
  for (const pod of rollout.remove) {
    const outcome = await cluster.remove(podObject(pod), signal);
    // Another UID by now: it has been replaced.
    if (outcome.kind !== "ok" && outcome.kind !== "conflict") problems.push(problemOf(podObject(pod), outcome));
  }
  return { rollout, problems };
}

function podObject({ name, namespace, uid }: AgentPod): KubeObject {
  return { apiVersion: "v1", kind: "Pod", metadata: { name, namespace, uid } };
}

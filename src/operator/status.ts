// SPDX-License-Identifier: Apache-2.0
import type { Condition } from "../crds/installation.ts";
import type { Workloads } from "./ports.ts";
import { type Problem, problemText } from "./problem.ts";
import type { RolloutPlan } from "./rollout.ts";

/** What one pass has found out. */
export interface Findings {
  readonly generation: number;
  /** What keeps the Installation from being carried out; empty when it has been. */
  readonly problems: readonly Problem[];
  readonly notes: readonly string[];
  readonly ignored: readonly string[];
  readonly workloads: Workloads;
  readonly rollout: RolloutPlan | undefined;
  /** Nodes that Kubernetes calls not ready: their agents are not waited for. */
  readonly down: readonly string[];
  /** Nodes whose change has taken too long. */
  readonly late: readonly string[];
  /** What is being waited for besides, such as a removal's next step. */
  readonly waiting?: string;
}

const MAX_PROBLEMS = 3;
const MAX_NODES = 5;
/** Longest text that is still read by anybody; etcd and kubectl would take more. */
const MAX_MESSAGE = 1500;

/** Available, Progressing and Degraded, which are those of TigeraStatus and Installation alike. Source: calico-interop 6.2. */
export function conditionsOf(findings: Findings): Condition[] {
  const { generation, notes } = findings;
  const problems = [...findings.problems, ...rolloutProblems(findings), ...podProblems(findings)];
  const [first] = problems;
  const progress = progressOf(findings);
  const available = availabilityOf(findings);
  const more = problems.length > MAX_PROBLEMS ? [`${problems.length - MAX_PROBLEMS} more like these`] : [];
  const problemsText = [...problems.slice(0, MAX_PROBLEMS).map(problemText), ...more].join(". ");
  const condition = (type: string, status: boolean, reason: string, message: string): Condition => ({
    type,
    status: status ? "True" : "False",
    reason,
    message: message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message,
    observedGeneration: generation,
  });
  // kubectl shows the message of Available, so it has whatever is most urgent.
  const said = problemsText || progress || available.message || notes.join(". ");
  return [
    condition(
      "Available",
      available.isAvailable,
      available.isAvailable ? "AllObjectsAvailable" : "ResourceNotReady",
      said,
    ),
    condition("Progressing", progress !== "", progress === "" ? "AllObjectsAvailable" : "ResourceNotReady", progress),
    condition("Degraded", first !== undefined, first?.reason ?? "AllObjectsAvailable", problemsText),
  ];
}

/** The Installation has one more: which of its fields have no effect. */
export function installationConditionsOf(findings: Findings): Condition[] {
  const { ignored, generation } = findings;
  const condition: Condition = {
    type: "FieldsIgnored",
    status: ignored.length === 0 ? "False" : "True",
    reason: ignored.length === 0 ? "AllFieldsHeeded" : "NotOfGingham",
    message: ignored.length === 0 ? "" : `These fields have no effect here: ${ignored.join("; ")}`,
    observedGeneration: generation,
  };
  return [...conditionsOf(findings), condition];
}

function availabilityOf({ workloads, down }: Findings): { readonly isAvailable: boolean; readonly message: string } {
  const { daemonSet, deployment, pods } = workloads;
  if (daemonSet === undefined) return { isAvailable: false, message: "The agents are not installed yet" };
  const ready = pods.filter(({ isReady }) => isReady).length;
  // One node's trouble is that node's: the network is there as long as any agent is.
  if (ready === 0) return { isAvailable: false, message: `No agent of ${pods.length} is ready` };
  if ((deployment?.status?.availableReplicas ?? 0) === 0)
    return { isAvailable: false, message: "No controller is ready" };
  const nodes = pods.filter(({ node }) => down.includes(node)).map(({ node }) => node);
  const named = nodes.slice(0, MAX_NODES).join(", ") + (nodes.length > MAX_NODES ? ", …" : "");
  return { isAvailable: true, message: nodes.length === 0 ? "" : `Nodes that are down: ${named}` };
}

function progressOf({ workloads, rollout, problems, waiting, down }: Findings): string {
  if (waiting !== undefined) return waiting;
  if (problems.length > 0) return "";
  const { daemonSet, deployment, pods } = workloads;
  const parts: string[] = [];
  const { observedGeneration = 0, desiredNumberScheduled: desired = 0 } = daemonSet?.status ?? {};
  const isSeen = daemonSet !== undefined && observedGeneration >= (daemonSet.metadata.generation ?? 0);
  const awaited = pods.filter(({ node, isReady }) => !isReady && !down.includes(node)).length;
  if (!isSeen || pods.length < desired) parts.push("The agents are being started");
  else if (rollout !== undefined && (rollout.waitsFor.length > 0 || rollout.remove.length > 0)) {
    const nodes = rollout.changing.length === 0 ? "" : `, now ${rollout.changing.join(", ")}`;
    parts.push(`${rollout.updated} of ${rollout.total} agents are up to date${nodes}`);
  } else if (awaited > 0) parts.push(`${pods.length - awaited} of ${pods.length} agents are ready`);
  const wanted = deployment?.spec?.replicas ?? 1;
  const { availableReplicas = 0, updatedReplicas = 0 } = deployment?.status ?? {};
  if (availableReplicas < wanted || updatedReplicas < wanted)
    parts.push(`${Math.min(availableReplicas, updatedReplicas)} of ${wanted} controllers are ready`);
  return parts.join("; ");
}

function rolloutProblems({ rollout, late }: Findings): Problem[] {
  return (rollout?.waitsFor ?? [])
    .filter(({ node, isFailing }) => isFailing || late.includes(node))
    .map(({ node, why }) => ({
      reason: "RolloutPaused",
      field: `node ${node}`,
      message: `${why}, and it was healthy before the change: no other node is changed until it is again; see kubectl -n gingham-system describe pods, then mend the node or take the change of the Installation back`,
    }));
}

/** Agents that cannot run where they should; those of a roll-out are told by it. */
function podProblems({ workloads, rollout, down }: Findings): Problem[] {
  const told = rollout?.waitsFor.map(({ node }) => node) ?? [];
  return workloads.pods
    .filter(({ node, trouble }) => trouble !== "" && !down.includes(node) && !told.includes(node))
    .map(({ name, namespace, node, trouble }) => ({
      reason: "PodFailure",
      field: `Pod ${namespace}/${name} on node ${node}`,
      message: `${trouble}; see kubectl -n ${namespace} describe pod ${name}, and its log`,
    }));
}

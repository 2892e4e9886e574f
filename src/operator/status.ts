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
  /** Nodes whose change has taken too long. */
  readonly late: readonly string[];
  /** What is being waited for besides, such as a removal's next step. */
  readonly waiting?: string;
}

const MAX_PROBLEMS = 3;
/** Longest text that is still read by anybody; etcd and kubectl would take more. */
const MAX_MESSAGE = 1500;

/** Available, Progressing and Degraded, which are those of TigeraStatus and Installation alike. Source: calico-interop 6.2. */
export function conditionsOf(findings: Findings): Condition[] {
  const { generation, notes, workloads } = findings;
  const problems = [...findings.problems, ...rolloutProblems(findings)];
  const [first] = problems;
  const progress = progressOf(findings);
  const available = availabilityOf(workloads);
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

function availabilityOf({ daemonSet, deployment }: Workloads): {
  readonly isAvailable: boolean;
  readonly message: string;
} {
  const { desiredNumberScheduled: desired, numberAvailable: ready = 0 } = daemonSet?.status ?? {};
  if (desired === undefined) return { isAvailable: false, message: "The agents are not installed yet" };
  // A node that is down is Kubernetes' to tell; the network is there as long as any agent is.
  if (ready === 0 && desired > 0) return { isAvailable: false, message: `No agent of ${desired} is ready` };
  if ((deployment?.status?.availableReplicas ?? 0) === 0)
    return { isAvailable: false, message: "No controller is ready" };
  return { isAvailable: true, message: ready < desired ? `${ready} of ${desired} agents are ready` : "" };
}

function progressOf({ workloads, rollout, problems, waiting }: Findings): string {
  if (waiting !== undefined) return waiting;
  if (problems.length > 0) return "";
  const { daemonSet, deployment } = workloads;
  const parts: string[] = [];
  const isSeen = (daemonSet?.status?.observedGeneration ?? 0) >= (daemonSet?.metadata.generation ?? 0);
  if (daemonSet === undefined || !isSeen) parts.push("The agents are being started");
  else if (rollout !== undefined && (rollout.waitsFor.length > 0 || rollout.remove.length > 0)) {
    const nodes = rollout.changing.length === 0 ? "" : `, now ${rollout.changing.join(", ")}`;
    parts.push(`${rollout.updated} of ${rollout.total} agents are up to date${nodes}`);
  } else {
    const { desiredNumberScheduled: desired = 0, numberAvailable: ready = 0 } = daemonSet.status ?? {};
    if (ready < desired) parts.push(`${ready} of ${desired} agents are ready`);
  }
  const wanted = deployment?.spec?.replicas ?? 1;
  const { availableReplicas = 0, updatedReplicas = 0 } = deployment?.status ?? {};
  if (availableReplicas < wanted || updatedReplicas < wanted)
    parts.push(`${availableReplicas} of ${wanted} controllers are ready`);
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

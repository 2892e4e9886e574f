// SPDX-License-Identifier: Apache-2.0
import type { Condition } from "../crds/installation.ts";
import { revisionOf } from "./agent-pod.ts";
import type { NodeFacts, Workloads } from "./ports.ts";
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
  /** Agents on those that are down are not waited for. */
  readonly nodes: readonly NodeFacts[];
  /** Nodes whose change has taken too long. */
  readonly late: readonly string[];
  /** As the Installation said before. */
  readonly wasAvailable: boolean;
  /** What is being waited for besides, such as a removal's next step. */
  readonly waiting?: string;
}

const MAX_PROBLEMS = 3;
const MAX_NODES = 5;
/** Longest text that is still read by anybody; etcd and kubectl would take more. */
const MAX_MESSAGE = 1500;

/** The pods of agents and controller, counted. */
interface Tally {
  readonly agents: number;
  /** Of those on nodes that are up. */
  readonly awaited: number;
  readonly ready: number;
  /** Of an earlier revision, and not about to go. */
  readonly outdated: number;
  /** Kubernetes has made all pods that the DaemonSet asks for. */
  readonly areMade: boolean;
  readonly down: readonly string[];
  readonly controllers: { readonly wanted: number; readonly ready: number; readonly available: number };
}

function tallyOf({ workloads, nodes }: Findings): Tally {
  const { daemonSet, deployment, pods } = workloads;
  const isDown = new Set(nodes.filter((node) => node.isDown).map(({ name }) => name));
  const awaited = pods.filter(({ node }) => !isDown.has(node));
  const revision = daemonSet && revisionOf(daemonSet);
  const { observedGeneration = 0, desiredNumberScheduled: desired = 0 } = daemonSet?.status ?? {};
  const { availableReplicas: available = 0, updatedReplicas: updated = 0 } = deployment?.status ?? {};
  return {
    agents: pods.length,
    awaited: awaited.length,
    ready: awaited.filter(({ isReady, isLeaving }) => isReady && !isLeaving).length,
    outdated: awaited.filter((pod) => pod.revision !== revision && !pod.isLeaving).length,
    areMade:
      daemonSet !== undefined && observedGeneration >= (daemonSet.metadata.generation ?? 0) && pods.length >= desired,
    down: pods.filter(({ node }) => isDown.has(node)).map(({ node }) => node),
    controllers: {
      // The port is the host's, so each of them needs a node of its own.
      wanted: Math.max(1, Math.min(deployment?.spec?.replicas ?? 1, nodes.length - isDown.size)),
      ready: Math.min(available, updated),
      available,
    },
  };
}

/** Available, Progressing and Degraded, which are those of TigeraStatus and Installation alike. Source: calico-interop 6.2. */
export function conditionsOf(findings: Findings): Condition[] {
  const { generation, notes } = findings;
  const problems = [
    ...findings.problems,
    ...rolloutProblems(findings),
    ...podProblems(findings),
    ...nodeProblems(findings),
  ];
  const [first] = problems;
  const tally = tallyOf(findings);
  const progress = progressOf(findings, tally);
  const available = availabilityOf(findings, tally);
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

/**
 * True once everything runs as the Installation says, and then until a change of the agents begins: an agent or a node that
 * starts anew, or is added, is Progressing, and may be Degraded, and takes nothing from the others.
 */
function availabilityOf(
  { workloads, waiting, wasAvailable }: Findings,
  { agents, awaited, ready, outdated, areMade, down, controllers }: Tally,
): { readonly isAvailable: boolean; readonly message: string } {
  if (workloads.daemonSet === undefined) return { isAvailable: false, message: "The agents are not installed yet" };
  if (ready === 0) return { isAvailable: false, message: `No agent of ${agents} is ready` };
  if (controllers.available === 0) return { isAvailable: false, message: "No controller is ready" };
  const isDone = areMade && ready === awaited && controllers.ready >= controllers.wanted;
  const isAvailable = waiting === undefined && outdated === 0 && (isDone || (wasAvailable && ready * 2 >= awaited));
  const named = down.slice(0, MAX_NODES).join(", ") + (down.length > MAX_NODES ? ", …" : "");
  return { isAvailable, message: down.length === 0 ? "" : `Nodes that are down: ${named}` };
}

function progressOf(
  { rollout, problems, waiting }: Findings,
  { awaited, ready, outdated, areMade, controllers }: Tally,
): string {
  if (waiting !== undefined) return waiting;
  if (problems.length > 0) return "";
  const parts: string[] = [];
  if (!areMade) parts.push("The agents are being started");
  else if (outdated > 0 || (rollout !== undefined && rollout.waitsFor.length > 0)) {
    const now = rollout === undefined || rollout.current.length === 0 ? "" : `, now ${rollout.current.join(", ")}`;
    parts.push(`${awaited - outdated} of ${awaited} agents are up to date${now}`);
  } else if (ready < awaited) parts.push(`${ready} of ${awaited} agents are ready`);
  if (controllers.ready < controllers.wanted)
    parts.push(`${controllers.ready} of ${controllers.wanted} controllers are ready`);
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
function podProblems({ workloads, rollout, nodes }: Findings): Problem[] {
  const down = nodes.filter(({ isDown }) => isDown).map(({ name }) => name);
  const told = rollout?.waitsFor.map(({ node }) => node) ?? [];
  return workloads.pods
    .filter(({ node, trouble }) => trouble !== "" && !down.includes(node) && !told.includes(node))
    .map(({ name, namespace, node, trouble }) => ({
      reason: "PodFailure",
      field: `Pod ${namespace}/${name} on node ${node}`,
      message: `${trouble}; see kubectl -n ${namespace} describe pod ${name}, and its log`,
    }));
}

/** What agents that run say of their nodes. */
function nodeProblems({ workloads, rollout, nodes }: Findings): Problem[] {
  const told = rollout?.waitsFor.map(({ node }) => node) ?? [];
  const broken = workloads.pods.filter(({ trouble }) => trouble !== "").map(({ node }) => node);
  const hasAgent = new Set(workloads.pods.map(({ node }) => node));
  return nodes.flatMap(({ name, isDown, trouble }) => {
    if (trouble === undefined || isDown || !hasAgent.has(name) || told.includes(name) || broken.includes(name))
      return [];
    const message = `${trouble}; mend it there: gingham node status on the node tells more`;
    return [{ reason: "NodeDegraded", field: `node ${name}`, message } as const];
  });
}

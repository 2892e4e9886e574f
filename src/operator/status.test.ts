// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { AgentPod, NodeFacts, Workloads } from "./ports.ts";
import { conditionsOf, type Findings, installationConditionsOf } from "./status.ts";

function agent(node: string, isReady = true, revision = "r"): AgentPod {
  return { name: node, namespace: "n", uid: node, node, revision, isReady, isLeaving: false, trouble: "" };
}

/** Nodes a and b. */
function nodes({ down = [] }: { readonly down?: readonly string[] } = {}): NodeFacts[] {
  return ["a", "b"].map((name) => ({
    name,
    isReady: !down.includes(name),
    isDown: down.includes(name),
    addresses: [],
  }));
}

/** As in a cluster that has no network yet. */
const WAITING: NodeFacts[] = nodes().map((node) => ({ ...node, isReady: false }));

function workloads(pods: readonly AgentPod[], { replicas = 2, available = 2, observed = 1 } = {}): Workloads {
  const metadata = { name: "x", generation: 1 };
  const status = { observedGeneration: observed, desiredNumberScheduled: pods.length };
  const template = { metadata: { annotations: { "gingham.dev/revision": "r" } } };
  return {
    daemonSet: { apiVersion: "apps/v1", kind: "DaemonSet", metadata, spec: { template }, status },
    deployment: {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: { replicas },
      status: { availableReplicas: available, updatedReplicas: available },
    },
    pods,
    unreadable: [],
  };
}

const GOOD: Findings = {
  generation: 3,
  problems: [],
  notes: [],
  ignored: [],
  workloads: workloads([agent("a"), agent("b")]),
  rollout: undefined,
  nodes: nodes(),
  late: [],
  wasAvailable: false,
};

/** As kubectl's columns: `True False False message`. */
function row(findings: Partial<Findings>): string {
  const conditions = conditionsOf({ ...GOOD, ...findings });
  return [...conditions.map(({ status }) => status), conditions[0]?.message].join(" ");
}

const WRONG = { reason: "InvalidField", field: "spec.x", message: "y" } as const;

describe("conditionsOf()", () => {
  it.each<readonly [string, Partial<Findings>, string]>([
    ["all is well", {}, "True False False "],
    [
      "nothing is there yet",
      { workloads: { daemonSet: undefined, deployment: undefined, pods: [], unreadable: [] } },
      "False True False The agents are being started; 0 of 1 controllers are ready",
    ],
    [
      "an agent is not ready",
      { workloads: workloads([agent("a"), agent("b", false)]) },
      "False True False 1 of 2 agents are ready",
    ],
    [
      "nodes wait for the network that their agents bring",
      { workloads: workloads([agent("a", false), agent("b", false)]), nodes: WAITING },
      "False True False 0 of 2 agents are ready",
    ],
    ["the agents are ready before the kubelets say so", { nodes: WAITING }, "True False False "],
    [
      "the one that is not ready is on a node that is down",
      { workloads: workloads([agent("a"), agent("b", false)]), nodes: nodes({ down: ["b"] }) },
      "True False False Nodes that are down: b",
    ],
    [
      "on a node that is down neither agent nor controller can be changed",
      {
        workloads: workloads([agent("a"), agent("b", false, "old")], { available: 1 }),
        nodes: nodes({ down: ["b"] }),
      },
      "True False False Nodes that are down: b",
    ],
    [
      "an agent is of the revision before",
      { workloads: workloads([agent("a"), agent("b", true, "old")]), wasAvailable: true },
      "False True False 1 of 2 agents are up to date",
    ],
    [
      "one of two controllers is not ready",
      { workloads: workloads([agent("a"), agent("b")], { available: 1 }) },
      "False True False 1 of 2 controllers are ready",
    ],
    ["no agent is ready", { workloads: workloads([agent("a", false)]) }, "False True False 0 of 1 agents are ready"],
    [
      "no controller is ready",
      { workloads: workloads([agent("a")], { available: 0 }) },
      "False True False 0 of 2 controllers are ready",
    ],
    [
      "the DaemonSet has not been looked at",
      { workloads: workloads([agent("a")], { observed: 0 }) },
      "False True False The agents are being started",
    ],
    ["what is asked for cannot be, and what runs, runs", { problems: [WRONG] }, "True False True spec.x: y"],
    [
      "there are many problems",
      { problems: [WRONG, WRONG, WRONG, WRONG, WRONG] },
      "True False True spec.x: y. spec.x: y. spec.x: y. 2 more like these",
    ],
    ["there is something to know", { notes: ["No pool"] }, "True False False No pool"],
  ])("%s", (_, findings, expected) => {
    expect(row(findings)).toBe(expected);
  });

  it.each<readonly [string, Partial<Findings>, string]>([
    [
      "an agent starts anew, or its node does, or comes",
      { workloads: workloads([agent("a"), agent("b", false)]) },
      "True True False 1 of 2 agents are ready",
    ],
    [
      "a controller starts anew",
      { workloads: workloads([agent("a"), agent("b")], { available: 1 }) },
      "True True False 1 of 2 controllers are ready",
    ],
    [
      "Kubernetes has not looked at a DaemonSet that has the agents' revision",
      { workloads: workloads([agent("a"), agent("b")], { observed: 0 }) },
      "True True False The agents are being started",
    ],
    [
      "a node that was down is back, and its old agent goes",
      { workloads: workloads([agent("a"), { ...agent("b", false, "old"), isLeaving: true }]) },
      "True True False 1 of 2 agents are ready",
    ],
    [
      "no controller is left",
      { workloads: workloads([agent("a"), agent("b")], { available: 0 }) },
      "False True False 0 of 2 controllers are ready",
    ],
    [
      "most agents are not ready",
      { workloads: workloads([agent("a"), agent("b", false), agent("c", false)]) },
      "False True False 1 of 3 agents are ready",
    ],
  ])("once Available, it goes by what runs: %s", (_, findings, expected) => {
    expect(row({ ...findings, wasAvailable: true })).toBe(expected);
  });

  it("is Degraded by a rollout that failed or takes too long, and not by one that is under way", () => {
    const rollout = (isFailing: boolean): Findings["rollout"] => {
      const waitsFor = [{ node: "a", why: "its new agent is not ready yet", isFailing }];
      return { remove: [], changed: ["a"], current: ["a"], updated: 1, total: 2, waitsFor };
    };
    const changed = { workloads: workloads([agent("a", false), agent("b", true, "old")]) };
    expect(row({ ...changed, rollout: rollout(false) })).toBe("False True False 1 of 2 agents are up to date, now a");
    const paused = /^False True True node a: its new agent is not ready yet, and it was healthy before the change: /;
    expect(row({ ...changed, rollout: rollout(true) })).toMatch(paused);
    expect(row({ ...changed, rollout: rollout(false), late: ["a"] })).toMatch(paused);
  });

  it("names an agent that cannot run, unless its node is down or the roll-out tells of it", () => {
    const broken: AgentPod = { ...agent("b", false), trouble: "install: ImagePullBackOff" };
    const failing = { workloads: workloads([agent("a"), broken]) };
    expect(row(failing)).toBe(
      "False True True Pod n/b on node b: install: ImagePullBackOff; see kubectl -n n describe pod b, and its log",
    );
    expect(row({ ...failing, nodes: nodes({ down: ["b"] }) })).toMatch(/^True False False/);
    const waitsFor = [{ node: "b", why: "it is not", isFailing: true }];
    const rollout = { remove: [], changed: ["b"], current: ["b"], updated: 1, total: 2, waitsFor };
    expect(row({ ...failing, rollout })).not.toContain("ImagePullBackOff");
  });

  it("tells what an agent that runs says of its node, unless the roll-out tells of it", () => {
    const trouble = "networkConfig: Cannot write /etc/cni/net.d/x: the disk is full; make room there";
    const told = nodes().map((node) => (node.name === "b" ? { ...node, trouble } : node));
    const text = `node b: ${trouble}; mend it there: gingham node status on the node tells more`;
    expect(row({ nodes: told })).toBe(`True False True ${text}`);
    expect(row({ nodes: told, workloads: workloads([agent("a"), agent("b", false)]) })).toBe(`False True True ${text}`);
    // The kubelet calls a node not ready while it waits for its network, which is just when there is something to tell.
    expect(row({ nodes: told.map((node) => ({ ...node, isReady: node.name === "a" })) })).toBe(
      `True False True ${text}`,
    );
    expect(row({ nodes: told.map((node) => ({ ...node, isDown: node.name === "b" })) })).not.toContain("disk");
    // No agent of ours is there: whatever it was, it is not ours to tell.
    expect(row({ nodes: told, workloads: workloads([agent("a")]) })).toBe("True False False ");
    const waitsFor = [{ node: "b", why: `not ready: ${trouble}`, isFailing: true }];
    const rollout = { remove: [], changed: ["b"], current: ["b"], updated: 1, total: 2, waitsFor };
    expect(row({ nodes: told, rollout }).match(/disk is full/g)).toHaveLength(1);
  });

  it("has each condition for the generation that was looked at", () => {
    expect(installationConditionsOf(GOOD).map(({ observedGeneration }) => observedGeneration)).toEqual([3, 3, 3, 3]);
  });
});

describe("installationConditionsOf()", () => {
  it("names the fields that have no effect", () => {
    const told = (ignored: string[]): unknown => installationConditionsOf({ ...GOOD, ignored }).at(-1);
    expect(told([])).toMatchObject({ type: "FieldsIgnored", status: "False", message: "" });
    expect(told(["spec.a", "spec.b"])).toMatchObject({
      status: "True",
      message: expect.stringContaining("spec.a; spec.b") as string,
    });
  });
});

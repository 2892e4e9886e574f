// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import type { AgentPod, NodeFacts } from "./ports.ts";
import { planRollout, type RolloutInput } from "./rollout.ts";

function pod(node: string, revision: string, more: Partial<AgentPod> = {}): AgentPod {
  return {
    name: `${node}-${revision}`,
    namespace: "n",
    uid: node,
    node,
    revision,
    isReady: true,
    isLeaving: false,
    trouble: "",
    ...more,
  };
}

function node(name: string, isReady = true): NodeFacts {
  return { name, isReady, addresses: [] };
}

function plan(input: Partial<RolloutInput>): ReturnType<typeof planRollout> {
  const nodes = ["a", "b", "c"].map((name) => node(name));
  return planRollout({ revision: "new", pods: [], nodes, changing: [], maxUnavailable: 1, ...input });
}

const namesOf = (pods: readonly AgentPod[]): string[] => pods.map(({ name }) => name);

describe("planRollout()", () => {
  it("replaces one healthy agent, and remembers its node", () => {
    const { remove, changing, waitsFor } = plan({ pods: [pod("b", "old"), pod("a", "old"), pod("c", "old")] });
    expect(namesOf(remove)).toEqual(["a-old"]);
    expect([changing, waitsFor]).toEqual([["a"], []]);
  });

  it("waits while the node that changes is not healthy again, and says why", () => {
    const pods = [pod("a", "new", { isReady: false, trouble: "ImagePullBackOff" }), pod("b", "old"), pod("c", "old")];
    const { remove, changing, waitsFor } = plan({ pods, changing: ["a"] });
    expect([remove, changing]).toEqual([[], ["a"]]);
    expect(waitsFor).toEqual([
      { node: "a", why: "its new agent a-new does not run: ImagePullBackOff", isFailing: true },
    ]);
  });

  it("goes on when it is", () => {
    const { remove, changing } = plan({ pods: [pod("a", "new"), pod("b", "old"), pod("c", "old")], changing: ["a"] });
    expect([namesOf(remove), changing]).toEqual([["b-old"], ["b"]]);
  });

  it("a node that was down before does not count: it is changed at once, and nobody waits for it", () => {
    const pods = [pod("a", "old", { isReady: false }), pod("b", "old"), pod("c", "old")];
    const first = plan({ pods });
    expect([namesOf(first.remove), first.changing]).toEqual([["a-old", "b-old"], ["b"]]);
    const later = [pod("a", "new", { isReady: false, trouble: "Error" }), pod("b", "new"), pod("c", "old")];
    const second = plan({ pods: later, changing: ["b"] });
    expect([namesOf(second.remove), second.waitsFor]).toEqual([["c-old"], []]);
  });

  it("the agent of a node that Kubernetes calls not ready counts as down, though its pod says ready", () => {
    const nodes = [node("a", false), node("b")];
    const { remove, changing } = plan({ nodes, pods: [pod("a", "old"), pod("b", "old")] });
    expect([namesOf(remove), changing]).toEqual([["a-old", "b-old"], ["b"]]);
  });

  it("a node that became unready after its change holds the others back", () => {
    const { remove, waitsFor } = plan({
      nodes: [node("a", false), node("b")],
      pods: [pod("a", "new"), pod("b", "old")],
      changing: ["a"],
    });
    expect([remove, waitsFor[0]?.isFailing]).toEqual([[], true]);
  });

  it("taking the change back repairs the node that failed, without waiting for it first", () => {
    const pods = [pod("a", "bad", { isReady: false }), pod("b", "new"), pod("c", "new")];
    expect(namesOf(plan({ pods, changing: ["a"] }).remove)).toEqual(["a-bad"]);
  });

  it("forgets a node that has left the cluster, and leaves pods alone that are going already", () => {
    const pods = [pod("b", "old", { isLeaving: true }), pod("c", "old")];
    const { remove, changing } = plan({ nodes: [node("b"), node("c")], pods, changing: ["gone"] });
    expect([namesOf(remove), changing]).toEqual([["c-old"], ["c"]]);
  });

  it("does as many at once as maxUnavailable says", () => {
    const pods = [pod("a", "old"), pod("b", "old"), pod("c", "old")];
    expect(namesOf(plan({ pods, maxUnavailable: 2 }).remove)).toEqual(["a-old", "b-old"]);
  });
});

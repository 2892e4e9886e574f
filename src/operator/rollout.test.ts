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
  return { name, isReady, isDown: !isReady, addresses: [] };
}

function plan(input: Partial<RolloutInput>): ReturnType<typeof planRollout> {
  const nodes = ["a", "b", "c"].map((name) => node(name));
  return planRollout({ revision: "new", pods: [], nodes, changed: [], maxUnavailable: 1, ...input });
}

const namesOf = (pods: readonly AgentPod[]): string[] => pods.map(({ name }) => name);

describe("planRollout()", () => {
  it("replaces one healthy agent, and remembers its node", () => {
    const { remove, changed, waitsFor } = plan({ pods: [pod("b", "old"), pod("a", "old"), pod("c", "old")] });
    expect(namesOf(remove)).toEqual(["a-old"]);
    expect([changed, waitsFor]).toEqual([["a"], []]);
  });

  it("waits while the node that changes is not healthy again, and says why", () => {
    const pods = [pod("a", "new", { isReady: false, trouble: "ImagePullBackOff" }), pod("b", "old"), pod("c", "old")];
    const { remove, changed, waitsFor } = plan({ pods, changed: ["a"] });
    expect([remove, changed]).toEqual([[], ["a"]]);
    expect(waitsFor).toEqual([
      { node: "a", why: "its new agent a-new does not run: ImagePullBackOff", isFailing: true },
    ]);
  });

  it("goes on when it is", () => {
    const { remove, waitsFor } = plan({ pods: [pod("a", "new"), pod("b", "old"), pod("c", "old")], changed: ["a"] });
    expect([namesOf(remove), waitsFor]).toEqual([["b-old"], []]);
  });

  it("stops when a node that was changed gets worse later, while others are being changed", () => {
    const pods = [pod("a", "new", { isReady: false }), pod("b", "new"), pod("c", "old")];
    const { changed } = plan({ pods: [pod("a", "new"), pod("b", "old"), pod("c", "old")], changed: ["a"] });
    const { remove, waitsFor } = plan({ pods, changed });
    expect([remove, waitsFor.map(({ node: name }) => name)]).toEqual([[], ["a"]]);
  });

  it("remembers the last nodes only, and none when all are done", () => {
    const names = Array.from({ length: 40 }, (_, i) => `n${String(i).padStart(2, "0")}`);
    const nodes = names.map((name) => node(name));
    const done = names.slice(0, 30);
    const pods = [
      ...done.map((name) => pod(name, "new", { isReady: name !== "n00" })),
      ...names.slice(30).map((name) => pod(name, "old")),
    ];
    const { changed } = plan({ nodes, pods, changed: done, maxUnavailable: 2 });
    // The one that it waits for stays, however long ago it was changed.
    expect([changed.length, changed[0], changed.at(-1)]).toEqual([20, "n00", "n30"]);
    const all = names.map((name) => pod(name, "new"));
    expect(plan({ nodes, pods: all, changed }).changed).toEqual([]);
  });

  it("deletes what an operator has noted and not deleted before it ended", () => {
    const pods = [pod("a", "old"), pod("b", "old"), pod("c", "old")];
    const { remove, changed } = plan({ pods, changed: ["a"] });
    expect([namesOf(remove), changed]).toEqual([["a-old"], ["a"]]);
  });

  it("takes a change back on all nodes that have it, one after the other", () => {
    const pods = [pod("a", "bad"), pod("b", "bad"), pod("c", "new")];
    const { remove, changed } = plan({ pods, changed: ["a", "b"] });
    expect([namesOf(remove), changed]).toEqual([["a-bad"], ["b", "a"]]);
  });

  it("a node that was down before does not count: it is changed at once, and nobody waits for it", () => {
    const pods = [pod("a", "old", { isReady: false }), pod("b", "old"), pod("c", "old")];
    const first = plan({ pods });
    expect([namesOf(first.remove), first.changed]).toEqual([["a-old", "b-old"], ["b"]]);
    const later = [pod("a", "new", { isReady: false, trouble: "Error" }), pod("b", "new"), pod("c", "old")];
    const second = plan({ pods: later, changed: ["b"] });
    expect([namesOf(second.remove), second.waitsFor]).toEqual([["c-old"], []]);
  });

  it("the agent of a node that Kubernetes calls not ready counts as down, though its pod says ready", () => {
    const nodes = [node("a", false), node("b")];
    const { remove, changed } = plan({ nodes, pods: [pod("a", "old"), pod("b", "old")] });
    expect([namesOf(remove), changed]).toEqual([["a-old", "b-old"], ["b"]]);
  });

  it("a node that became unready after its change holds the others back", () => {
    const { remove, waitsFor } = plan({
      nodes: [node("a", false), node("b")],
      pods: [pod("a", "new"), pod("b", "old")],
      changed: ["a"],
    });
    expect([remove, waitsFor[0]?.isFailing]).toEqual([[], true]);
  });

  it("taking the change back repairs the node that failed, without waiting for it first", () => {
    const pods = [pod("a", "bad", { isReady: false }), pod("b", "new"), pod("c", "new")];
    expect(namesOf(plan({ pods, changed: ["a"] }).remove)).toEqual(["a-bad"]);
  });

  it("forgets a node that has left the cluster, and leaves pods alone that are going already", () => {
    const pods = [pod("b", "old", { isLeaving: true }), pod("c", "old")];
    const { remove, changed } = plan({ nodes: [node("b"), node("c")], pods, changed: ["gone"] });
    expect([namesOf(remove), changed]).toEqual([["c-old"], ["c"]]);
  });

  it("does as many at once as maxUnavailable says", () => {
    const pods = [pod("a", "old"), pod("b", "old"), pod("c", "old")];
    expect(namesOf(plan({ pods, maxUnavailable: 2 }).remove)).toEqual(["a-old", "b-old"]);
  });
});

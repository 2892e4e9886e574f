// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import { CalcState } from "./calc/state.ts";
import { FakeSource, fakeAffinity, fakeNode } from "./fake-resources.ts";
import { withPodCIDRs } from "./pod-cidrs.ts";

function nodeWith(name: string, ip: string, ...podCIDRs: readonly string[]): Node {
  return { ...fakeNode(name, [ip]), spec: { podCIDRs } };
}

function setUp() {
  const nodes = new FakeSource<Node>(
    nodeWith("a", "192.0.2.1", "10.1.0.0/24"),
    nodeWith("b", "192.0.2.2", "10.2.0.0/24"),
  );
  const affinities = new FakeSource<BlockAffinity>(fakeAffinity("b", "10.9.0.0/26"));
  const source = withPodCIDRs(nodes, affinities);
  const state = new CalcState("a");
  for (const node of nodes.list()) state.setNode(node);
  nodes.onChange(({ new: node }) => {
    if (node !== undefined) state.setNode(node);
  });
  source.onChange(({ key, new: claim }) => {
    if (claim === undefined) state.deleteAffinity(key);
    else state.setAffinity(claim);
  });
  for (const claim of source.list()) state.setAffinity(claim);
  const routes = () => {
    state.flush();
    return Object.fromEntries([...state.routes].map(([dst, { target }]) => [dst, target.kind]));
  };
  return { nodes, affinities, source, routes };
}

describe("withPodCIDRs()", () => {
  test("routes the nodes' networks as blocks, beside the blocks", () => {
    const { routes } = setUp();
    expect(routes()).toEqual({ "10.1.0.0/24": "blackhole", "10.2.0.0/24": "remote", "10.9.0.0/26": "remote" });
  });

  test("follows nodes that come, get a network, lose it, and go", () => {
    const { nodes, routes } = setUp();
    nodes.set(nodeWith("c", "192.0.2.3"));
    expect(routes()).not.toHaveProperty("10.3.0.0/24");
    nodes.set(nodeWith("c", "192.0.2.3", "10.3.0.0/24"));
    expect(routes()).toHaveProperty("10.3.0.0/24", "remote");
    nodes.set(nodeWith("c", "192.0.2.3"));
    nodes.delete("b");
    expect(routes()).toEqual({ "10.1.0.0/24": "blackhole", "10.9.0.0/26": "remote" });
  });

  test("is switched off and on while it runs", () => {
    const { nodes, source, routes } = setUp();
    source.route(false);
    expect(routes()).toEqual({ "10.9.0.0/26": "remote" });
    nodes.set(nodeWith("c", "192.0.2.3", "10.3.0.0/24"));
    expect(routes()).toEqual({ "10.9.0.0/26": "remote" });
    source.route(true);
    expect(Object.keys(routes())).toEqual(
      expect.arrayContaining(["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24", "10.9.0.0/26"]),
    );
  });

  test("is complete when nodes and claims are", async () => {
    const { nodes, affinities, source } = setUp();
    let isSynced = false;
    const synced = source.synced.then(() => {
      isSynced = true;
    });
    nodes.sync();
    await Promise.resolve();
    expect(isSynced).toBe(false);
    affinities.sync();
    await synced;
  });
});

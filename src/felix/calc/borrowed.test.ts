// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseCIDR } from "../../net/cidr.ts";
import { formatIP } from "../../net/ip.ts";
import { fakeAffinity, fakeBlock, fakeNode, fakePool } from "../fake-resources.ts";
import { BORROWS_ANNOTATION, borrowedOf, borrowsOf, canBorrow, renderBorrows, sameBorrowed } from "./borrowed.ts";
import { projectNode, sameNode } from "./projections.ts";

function shown(...block: Parameters<typeof fakeBlock>): readonly string[] | undefined {
  return borrowedOf(fakeBlock(...block))?.addresses.map(({ ip, node }) => `${formatIP(ip)} ${node}`);
}

describe("borrowedOf", () => {
  test("is undefined for a block that its owner alone uses, an empty one of nobody, and one of Services", () => {
    expect(shown("10.0.0.0/30", "host:node-a", { 0: "node-a", 3: "node-a" })).toBeUndefined();
    expect(shown("10.0.0.0/30", undefined, {})).toBeUndefined();
    expect(shown("10.0.0.0/30", "virtual:load-balancer", { 1: "node-a" })).toBeUndefined();
  });

  test("has the addresses of other nodes, of both families", () => {
    expect(shown("10.0.0.4/30", "host:node-a", { 0: "node-a", 1: "node-b", 3: "node-c" })).toEqual([
      "10.0.0.5 node-b",
      "10.0.0.7 node-c",
    ]);
    expect(shown("fd00::4/126", "host:node-a", { 2: "node-b" })).toEqual(["fd00::6 node-b"]);
  });

  test("has all addresses of a block that nobody owns, those without a node apart", () => {
    expect(shown("10.0.0.0/30", undefined, { 0: "node-a", 1: null })).toEqual(["10.0.0.0 node-a"]);
    expect(shown("10.0.0.0/30", undefined, { 1: null })).toEqual([]);
    expect(shown("10.0.0.0/30", "host:node-a", { 1: null })).toBeUndefined();
  });

  test("an owner is compared by its whole name", () => {
    expect(shown("10.0.0.0/30", "host:node-a", { 0: "node-ab" })).toEqual(["10.0.0.0 node-ab"]);
  });

  test("holders and owner: an address is there exactly when its node is not the owner", () => {
    const node = fc.constantFrom("node-a", "node-b", "node-c");
    const holders = fc.dictionary(fc.constantFrom("0", "1", "2", "3"), fc.option(node));
    fc.assert(
      fc.property(fc.option(node), holders, (owner, held) => {
        const block = fakeBlock("10.0.0.0/30", owner === null ? undefined : `host:${owner}`, held);
        const expected = Object.entries(held).flatMap(([ordinal, holder]) =>
          holder === null || holder === owner ? [] : [`10.0.0.${ordinal} ${holder}`],
        );
        const found = borrowedOf(block);
        expect((found?.addresses ?? []).map(({ ip, node: n }) => `${formatIP(ip)} ${n}`)).toEqual(expected);
        expect(sameBorrowed(found, borrowedOf(structuredClone(block)))).toBe(true);
      }),
    );
  });
});

describe("canBorrow", () => {
  const pool = fakePool("four", "10.0.0.0/24");
  const claims = (count: number) =>
    Array.from({ length: count }, (_, i) => fakeAffinity("node-a", `10.0.0.${i * 64}/26`));

  test("while a pool has fewer unclaimed blocks than there are nodes", () => {
    const cluster = { strictAffinity: false, nodes: 2, pools: [pool] };
    expect(canBorrow({ ...cluster, affinities: claims(2) })).toBe(false);
    expect(canBorrow({ ...cluster, affinities: claims(3) })).toBe(true);
    expect(canBorrow({ ...cluster, affinities: [...claims(2), ...claims(2)] })).toBe(false);
    expect(canBorrow({ ...cluster, affinities: [...claims(2), fakeAffinity("node-a", "10.1.0.0/26")] })).toBe(false);
  });

  test("not with strict affinity, without pools, or with roomy ones, disabled ones and those of Services", () => {
    const cluster = { strictAffinity: false, nodes: 2, pools: [pool], affinities: claims(4) };
    expect(canBorrow(cluster)).toBe(true);
    expect(canBorrow({ ...cluster, strictAffinity: true })).toBe(false);
    expect(canBorrow({ ...cluster, pools: [] })).toBe(false);
    expect(canBorrow({ ...cluster, pools: [fakePool("roomy", "10.0.0.0/16")] })).toBe(false);
    expect(canBorrow({ ...cluster, pools: [fakePool("off", "10.0.0.0/24", { disabled: true })] })).toBe(false);
    const services = fakePool("lb", "10.0.0.0/24", { allowedUses: ["LoadBalancer"] });
    expect(canBorrow({ ...cluster, pools: [services] })).toBe(false);
  });

  test("while an address is fixed that is in a block with others", () => {
    const cluster = { strictAffinity: false, nodes: 2, pools: [fakePool("roomy", "10.0.0.0/16")], affinities: [] };
    const fixed = [parseCIDR("10.0.7.7/32")];
    expect(canBorrow({ ...cluster, fixed })).toBe(true);
    expect(canBorrow({ ...cluster, fixed: [parseCIDR("fd00::/126")] })).toBe(false);
    expect(canBorrow({ ...cluster, fixed, strictAffinity: true })).toBe(false);
    expect(canBorrow({ ...cluster, fixed, pools: [fakePool("single", "10.0.0.0/16", { blockSize: 32 })] })).toBe(false);
  });
});

describe("the hint of a borrower", () => {
  const saying = (text: string) => {
    const node = fakeNode("node-a", []);
    return projectNode({ ...node, metadata: { ...node.metadata, annotations: { [BORROWS_ANNOTATION]: text } } });
  };

  test("comes back as it was said, in order, past what is kept of a Node", () => {
    const names = ["10-0-1-0-26", "10-0-0-64-26", "fd00--40-122"];
    expect(borrowsOf(saying(renderBorrows(names)))).toEqual([...names].sort());
    expect(borrowsOf(saying(""))).toEqual([]);
    expect(sameNode(saying(renderBorrows(names)), saying(""))).toBe(false);
  });

  test("is bounded, and what cannot be a block's name is left out", () => {
    const many = Array.from({ length: 100 }, (_, i) => `10-0-${i}-0-26`);
    expect(borrowsOf(saying(renderBorrows(many)))).toHaveLength(64);
    expect(borrowsOf(saying(many.join()))).toHaveLength(64);
    expect(borrowsOf(saying(`../pods, ,${"a".repeat(64)},10-0-0-0-26`))).toEqual(["10-0-0-0-26"]);
  });
});

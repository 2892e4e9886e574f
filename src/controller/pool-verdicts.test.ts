// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { InvalidObjectError } from "../crds/errors.ts";
import { ALLOCATABLE, HEALTHY, type IPPool } from "../crds/ip-pool.ts";
import { type CIDR, parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import { factsOf, poolObject, rooms, use } from "./fake-pools.ts";
import { judgePools } from "./pool-verdicts.ts";
import type { BlockUse, PoolFacts, PoolReport } from "./ports.ts";

interface Case {
  readonly pools: readonly IPPool[];
  readonly blocks?: readonly BlockUse[];
  readonly options?: Parameters<typeof factsOf>[1];
  readonly former?: ReadonlyMap<string, readonly CIDR[]>;
}

function judge({ pools, blocks = [], options, former = new Map() }: Case): PoolReport {
  return judgePools(factsOf(pools, options), blocks, former);
}

/** The reasons of each pool's problems, and its messages. */
function told(report: PoolReport): Record<string, readonly (readonly [string, string])[]> {
  return Object.fromEntries(
    report.verdicts.map(({ pool, problems }) => [pool.name, problems.map((p) => [p.reason, p.message] as const)]),
  );
}

function problem(given: Case, reason: string): string {
  const [name = ""] = given.pools.map(({ metadata }) => metadata.name);
  const found = told(judge(given))[name]?.filter(([code]) => code === reason) ?? [];
  expect(found.map(([code]) => code)).toEqual([reason]);
  return found[0]?.[1] ?? "";
}

const strict = { strictAffinity: true };

describe("judgePools()", () => {
  it("finds nothing wrong with a pool in its ordinary use", () => {
    const pools = [poolObject("a", { cidr: "10.0.0.0/16" }), poolObject("b", { cidr: "fd00::/64", disabled: true })];
    const blocks = [use("10.0.0.0/26"), use("10.0.1.64/26", 64), use("fd00::40/122")];
    const report = judge({ pools, blocks, options: { nodes: rooms(50, {}, 110) } });
    expect(told(report)).toEqual({ a: [], b: [] });
    expect(report.orphans).toEqual([]);
    expect(
      report.verdicts.map(({ conditions }) => conditions.map(({ type, status, reason }) => [type, status, reason])),
    ).toEqual([
      [
        [ALLOCATABLE, "True", "OK"],
        [HEALTHY, "True", "OK"],
      ],
      [
        [ALLOCATABLE, "False", "PoolDisabled"],
        [HEALTHY, "True", "OK"],
      ],
    ]);
  });

  it("names the pool that an overlapping one has to give way to", () => {
    const metadata = { creationTimestamp: "2026-02-01T00:00:00Z" };
    const pools = [poolObject("young", { cidr: "10.0.0.0/24" }, metadata), poolObject("old", { cidr: "10.0.0.0/16" })];
    expect(problem({ pools }, "CIDROverlap")).toContain("IPPool old (10.0.0.0/16), which stays in use");
    expect(told(judge({ pools }))["old"]).toEqual([]);
  });

  it("says what cannot be read in each selector", () => {
    const pools = [poolObject("a", { cidr: "10.0.0.0/16", nodeSelector: "zone = 'a'", namespaceSelector: "has(" })];
    const found = told(judge({ pools }))["a"] ?? [];
    expect(found.map(([code]) => code)).toEqual(["InvalidSelector", "InvalidSelector"]);
    expect(found[0]?.[1]).toMatch(
      /^nodeSelector cannot be read .*used only by pods that name it.*kubectl edit ippool a/,
    );
    expect(found[1]?.[1]).toMatch(/^namespaceSelector cannot be read/);
  });

  it("reports blocks of another size, but not those of a pool that has them rightly", () => {
    const pool = poolObject("a", { cidr: "10.0.0.0/16", blockSize: 28 });
    const text = problem({ pools: [pool], blocks: [use("10.0.0.0/26", 7), use("10.0.1.0/28")] }, "MixedBlockSizes");
    expect(text).toContain("Its blocks are of /28, but there are blocks of /26: 10.0.0.0/26 (7 addresses in use)");
    const inner = poolObject("b", { cidr: "10.0.0.0/24", blockSize: 26 });
    const report = told(judge({ pools: [pool, inner], blocks: [use("10.0.0.0/26")] }));
    expect(report["a"]).toEqual([]);
  });

  it("reports blocks outside of a pool whose network was another one", () => {
    const pools = [poolObject("a", { cidr: "10.1.0.0/16" })];
    const former = new Map([["a", [parseCIDR("10.0.0.0/16"), parseCIDR("10.1.0.0/16")]]]);
    const text = problem({ pools, blocks: [use("10.0.0.0/26", 3), use("10.1.0.0/26")], former }, "BlocksOutside");
    expect(text).toContain("10.0.0.0/26 (3 addresses in use)");
    // Cut smaller than a block: nobody need remember.
    const cut = [poolObject("a", { cidr: "10.0.0.0/27", blockSize: 28 })];
    expect(problem({ pools: cut, blocks: [use("10.0.0.0/26")] }, "BlocksOutside")).toContain("10.0.0.0/26");
  });

  it("names the deleted pool of orphaned blocks, and tells of none that are empty", () => {
    const former = new Map([["gone", [parseCIDR("10.0.0.0/16")]]]);
    const blocks = [use("10.0.0.0/26", 3), use("10.0.1.0/26", 0), use("172.16.0.0/26")];
    const { orphans } = judge({ pools: [], blocks, former });
    expect(orphans).toEqual([{ formerPool: "gone", blocks: [blocks[0]] }, { blocks: [blocks[2]] }]);
  });

  it("counts what a pool that is being deleted still has in use", () => {
    const pools = [poolObject("a", { cidr: "10.0.0.0/16" }, { deletionTimestamp: "2026-03-01T00:00:00Z" })];
    expect(told(judge({ pools }))["a"]).toEqual([]);
    expect(problem({ pools, blocks: [use("10.0.0.0/26", 3), use("10.0.0.64/26", 2)] }, "Terminating")).toContain(
      "while 5 of its addresses, in 2 blocks, are in use",
    );
  });

  it("tells a pool that cannot be read so, leaves its Allocatable alone, and takes its blocks for no orphans", () => {
    const error = new InvalidObjectError("IPPool", "bad", "spec.blockSize", 64, "20 to 32");
    const object = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name: "bad" } };
    const bad = { name: "bad", object, error, conditions: [] };
    const blocks = [use("10.0.0.0/26")];
    for (const pool of [{ ...bad, cidr: parseCIDR("10.0.0.0/16") }, bad]) {
      const facts: PoolFacts = { ...factsOf([]), pools: [pool] };
      const { verdicts, orphans } = judgePools(facts, blocks, new Map());
      expect(orphans).toEqual([]);
      expect(verdicts[0]?.conditions).toMatchObject([{ type: HEALTHY, status: "False", reason: "InvalidPool" }]);
      expect(verdicts[0]?.conditions[0]?.message).toContain("spec.blockSize is 64, want 20 to 32");
    }
  });

  it("tells of a pool with addresses of nodes, unless it gives none or they are reserved", () => {
    const nodes = rooms(5).map((room, i) => ({
      ...room,
      addresses: [parseIP(`192.168.1.${i}`), parseIP(`fd00::${i}`)],
    }));
    const pools = [poolObject("a", { cidr: "192.168.0.0/16" }), poolObject("b", { cidr: "10.0.0.0/16" })];
    expect(problem({ pools, options: { nodes } }, "NodesInside")).toContain(
      "addresses of nodes: node-0 192.168.1.0, node-1 192.168.1.1, node-2 192.168.1.2 and 2 more: a pod may be given one",
    );
    const disabled = [poolObject("a", { cidr: "192.168.0.0/16", disabled: true })];
    expect(told(judge({ pools: disabled, options: { nodes } }))).toEqual({ a: [] });
    const reserved = [parseCIDR("192.168.1.0/24")];
    expect(told(judgePools({ ...factsOf(pools, { nodes }), reserved }, [], new Map()))).toEqual({ a: [], b: [] });
  });

  it("counts reserved addresses by pool", () => {
    const facts = { ...factsOf([poolObject("a", { cidr: "10.0.0.0/24" })]), reserved: [parseCIDR("10.0.0.0/30")] };
    expect([...judgePools(facts, [], new Map()).reserved]).toEqual([["a", 4]]);
  });
});

describe("judgePools() on IPAMConfig", () => {
  const small = poolObject("a", { cidr: "10.0.0.0/22" });

  it("counts the nodes that get no block where nobody may borrow", () => {
    const options = { config: strict, nodes: rooms(20) };
    expect(problem({ pools: [small], options }, "TooFewBlocks")).toContain(
      "This pool has 16 blocks, and 20 nodes have no other pool: 4 of them get no address",
    );
    expect(told(judge({ pools: [small], options: { ...options, nodes: rooms(16) } }))["a"]).toEqual([]);
    expect(told(judge({ pools: [small], options: { nodes: rooms(20) } }))["a"]).toEqual([]);
  });

  it("counts nodes only for the pools that they may use", () => {
    const zoneA = poolObject("a", { cidr: "10.0.0.0/25", nodeSelector: "zone == 'a'" });
    const rest = poolObject("b", { cidr: "10.1.0.0/24", nodeSelector: "all()" });
    const nodes = (inA: number, others: number) => [
      ...rooms(inA, { zone: "a" }),
      ...rooms(others, { zone: "b" }).map((room) => ({ ...room, name: `other-${room.name}` })),
    ];
    const reasons = (inA: number, others: number): string[][] =>
      Object.values(told(judge({ pools: [zoneA, rest], options: { config: strict, nodes: nodes(inA, others) } }))).map(
        (problems) => problems.map(([code]) => code),
      );
    // Together 6 blocks, 4 of which any node may have.
    expect(reasons(3, 3)).toEqual([[], []]);
    expect(reasons(6, 0)).toEqual([[], []]);
    expect(reasons(0, 5)).toEqual([[], ["TooFewBlocks"]]);
    expect(reasons(4, 3)).toEqual([["TooFewBlocks"], ["TooFewBlocks"]]);
  });

  it("does not count on pools that are disabled, for some namespaces, by name, or for other uses", () => {
    const others = [
      poolObject("b", { cidr: "10.1.0.0/16", disabled: true }),
      poolObject("c", { cidr: "10.2.0.0/16", namespaceSelector: "has(x)" }),
      poolObject("d", { cidr: "10.3.0.0/16", assignmentMode: "Manual" }),
      poolObject("e", { cidr: "10.4.0.0/16", allowedUses: ["LoadBalancer"] }),
      poolObject("f", { cidr: "fd00::/64" }),
    ];
    const report = judge({ pools: [small, ...others], options: { config: strict, nodes: rooms(17) } });
    const starved = Object.entries(told(report)).filter(([, problems]) => problems.length > 0);
    expect(starved.map(([name]) => name)).toEqual(["a"]);
  });

  it("says when the limit on blocks keeps a node from the pods that it allows", () => {
    const tiny = poolObject("a", { cidr: "10.0.0.0/16", blockSize: 30 });
    const hidden = problem({ pools: [tiny], options: { nodes: rooms(2, {}, 110) } }, "BlockLimit");
    expect(hidden).toContain("at most 20 blocks (built in while maxBlocksPerHost is 0), which is 80 addresses");
    expect(hidden).toContain("2 nodes, such as node-0, allow 110 pods");
    const config = { ...strict, maxBlocksPerHost: 1 };
    const pool = poolObject("a", { cidr: "10.0.0.0/16" });
    expect(problem({ pools: [pool], options: { config, nodes: rooms(1, {}, 110) } }, "BlockLimit")).toContain(
      "at most 1 block (maxBlocksPerHost of IPAMConfig default), which is 64 addresses, but node node-0 allows 110 pods",
    );
    expect(told(judge({ pools: [pool], options: { config, nodes: rooms(1, {}, 64) } }))["a"]).toEqual([]);
  });

  it.each([
    [{ strictAffinity: false, autoAllocateBlocks: false }, "are both false"],
    [
      { strictAffinity: false, maxBlocksPerHost: 3 },
      "maxBlocksPerHost of IPAMConfig default is 3 without strictAffinity",
    ],
  ])("tells enabled pools of settings that Calico's tools refuse: %j", (config, text) => {
    const off = poolObject("b", { cidr: "10.9.0.0/16", disabled: true });
    const given = { pools: [small, off], options: { config } };
    expect(problem(given, "InvalidIPAMConfig")).toContain(text);
    expect(told(judge(given))["b"]).toEqual([]);
  });
});

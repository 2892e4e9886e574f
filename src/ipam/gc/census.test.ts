// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { formatIP } from "../../net/ip.ts";
import { assign, release } from "../block.ts";
import { cool } from "../cooldown.ts";
import {
  affinityOf,
  asBlock,
  blockOf,
  calicosOwn,
  GRACE_MS,
  handleOf,
  nodeFacts,
  podAttributes,
  podFacts,
  take,
  takeTwice,
  viewOf,
} from "./fake-cluster.ts";
import type { CollectionPlan } from "./types.ts";

const BLOCK = "10.0.0.0/30";
const NODES = { "node-a": nodeFacts() };
const gone = { handleID: "net.gone", attributes: podAttributes("node-a", "gone") };
const live = { handleID: "net.live", attributes: podAttributes("node-a", "live") };
const nodes = viewOf(NODES, { "default/live": podFacts("node-a", ["10.0.0.1"]) });
/** After node-a was deleted. */
const deleted = viewOf({ "node-b": nodeFacts() });

function freed(plan: CollectionPlan): string[] {
  return plan.addresses
    .filter(({ isDue }) => isDue)
    .flatMap(({ leaks }) => leaks.map(({ address }) => formatIP(address.ip)));
}

describe("Census: addresses", () => {
  const stored = { blocks: [blockOf(BLOCK, "node-a", [gone, live])] };

  it("frees what looked leaked twice, the grace apart, and nothing else", () => {
    expect(freed(takeTwice(stored, nodes))).toEqual(["10.0.0.0"]);
  });

  it("frees nothing at the first look, nor before the grace is over", () => {
    const first = take(stored, nodes, { nowMs: 0 });
    expect(freed(first)).toEqual([]);
    const second = take(stored, nodes, { nowMs: GRACE_MS - 1, before: first.sightings });
    expect(freed(second)).toEqual([]);
    expect(freed(take(stored, nodes, { nowMs: GRACE_MS, before: second.sightings }))).toEqual(["10.0.0.0"]);
  });

  it("begins anew when a look in between found it in order", () => {
    const back = viewOf(NODES, { "default/gone": podFacts("node-a", ["10.0.0.0"]) });
    const first = take(stored, nodes, { nowMs: 0 });
    const second = take(stored, back, { nowMs: GRACE_MS / 2, before: first.sightings });
    expect(freed(take(stored, nodes, { nowMs: GRACE_MS, before: second.sightings }))).toEqual([]);
  });

  it("begins anew when the same address was given again to the same handle", () => {
    const [block] = stored.blocks;
    const spec = release(block?.spec ?? blockOf(BLOCK, "node-a").spec, [0]);
    const again = asBlock(assign({ ...spec, unallocated: [0, 2, 3] }, { ...gone, count: 1 }).block);
    const first = take(stored, nodes, { nowMs: 0 });
    expect(freed(take({ blocks: [again] }, nodes, { nowMs: GRACE_MS, before: first.sightings }))).toEqual([]);
  });

  it("frees all addresses of a handle or none", () => {
    const six = blockOf("fd00::/126", "node-a", [{ ...gone, attributes: podAttributes("node-a", "live") }]);
    const both = { blocks: [...stored.blocks, six] };
    // The pod `live` is said to hold the IPv6 address of the handle.
    const view = viewOf(NODES, { "default/live": podFacts("node-a", ["10.0.0.1", "fd00::"]) });
    expect(freed(takeTwice(both, view))).toEqual([]);
    expect(freed(takeTwice({ blocks: [...stored.blocks, blockOf("fd00::/126", "node-a", [gone])] }, nodes))).toEqual([
      "10.0.0.0",
      "fd00::",
    ]);
  });

  it("frees nothing out of a block that contradicts itself, nor elsewhere under its handles", () => {
    const broken = asBlock({ ...blockOf(BLOCK, "node-a", [gone]).spec, unallocated: [0, 1, 2, 3] });
    const plan = takeTwice({ blocks: [broken, blockOf("10.0.0.4/30", "node-a", [gone])] }, nodes);
    expect(freed(plan)).toEqual([]);
    expect(plan.damaged).toEqual(["10-0-0-0-30"]);
  });

  it("frees only what deleted nodes left when leak collection is off", () => {
    const off = { collectsLeaks: false };
    expect(freed(takeTwice(stored, nodes, off))).toEqual([]);
    expect(freed(takeTwice(stored, deleted, off))).toEqual(["10.0.0.0", "10.0.0.1"]);
  });

  it("frees a deleted node's tunnel after everything else of the node", () => {
    const tunnel = { handleID: "vxlan-tunnel-addr-node-a", attributes: { node: "node-a", type: "vxlanTunnelAddress" } };
    expect(freed(takeTwice({ blocks: [blockOf(BLOCK, "node-a", [tunnel, gone])] }, deleted))).toEqual(["10.0.0.1"]);
    expect(freed(takeTwice({ blocks: [blockOf(BLOCK, "node-a", [tunnel])] }, deleted))).toEqual(["10.0.0.0"]);
  });

  it.each([
    ["10.0.0.0/30", "ipip-tunnel-addr-node-a", "ipipTunnelAddress"],
    ["10.0.0.0/30", "vxlan-tunnel-addr-node-a", "vxlanTunnelAddress"],
    ["fd00::/126", "vxlan-v6-tunnel-addr-node-a", "vxlanV6TunnelAddress"],
    ["10.0.0.0/30", "wireguard-tunnel-addr-node-a", "wireguardTunnelAddress"],
    ["fd00::/126", "wireguard-v6-tunnel-addr-node-a", "wireguardV6TunnelAddress"],
  ])(
    "frees, out of %s, a deleted node's %s; of a node that came back in time it frees none",
    (cidr, handleID, type) => {
      const tunnels = { blocks: [blockOf(cidr, "node-a", [{ handleID, attributes: { node: "node-a", type } }])] };
      expect(freed(takeTwice(tunnels, deleted))).toHaveLength(1);
      expect(freed(takeTwice(tunnels, nodes))).toEqual([]);
      const first = take(tunnels, deleted, { nowMs: 0 });
      const back = take(tunnels, nodes, { nowMs: GRACE_MS / 2, before: first.sightings });
      const again = take(tunnels, deleted, { nowMs: GRACE_MS, before: back.sightings });
      expect(freed(again), "gone once more: the grace begins anew").toEqual([]);
    },
  );

  it("counts by pool and node", () => {
    const plan = take({ blocks: [blockOf(BLOCK, "node-b", [gone, live])] }, nodes, { nowMs: 0 });
    expect(plan.tallies).toEqual([
      { pool: "pool", node: "node-b", inUse: 0, borrowed: 0, blocks: 1, candidates: 0 },
      { pool: "pool", node: "node-a", inUse: 2, borrowed: 2, blocks: 0, candidates: 1 },
    ]);
  });
});

describe("Census: what Calico keeps for Windows, load balancers and virtual machines", () => {
  const stored = calicosOwn();
  const nothing = { handles: [], releases: [], repairs: [], removals: [], tombstones: [], cold: [], damaged: [] };

  it("stays, though there is no pod of it", () => {
    const plan = takeTwice(stored, viewOf({ "node-a": nodeFacts(), "win-1": nodeFacts() }));
    expect(plan).toMatchObject({ ...nothing, addresses: [] });
  });

  it("stays when its nodes are gone, but for the claim of a Windows node that holds nothing else", () => {
    const plan = takeTwice(stored, deleted);
    const releases = [expect.objectContaining({ name: "win-1-10-0-1-0-29", why: "nodeGone" })];
    expect(plan).toMatchObject({ ...nothing, addresses: [], releases });
  });
});

describe("Census: handles", () => {
  it("finds a handle without addresses, when it stayed the same for the grace", () => {
    const orphan = handleOf("net.Orphan", { [BLOCK]: 1 });
    const used = handleOf("net.live", { [BLOCK]: 2 });
    const stored = { blocks: [blockOf(BLOCK, "node-a", [live])], handles: [orphan, used] };
    expect(takeTwice(stored, nodes).handles).toEqual([
      { name: "net.orphan", handleID: "net.Orphan", resourceVersion: "1" },
    ]);
    const { sightings } = take(stored, nodes, { nowMs: 0 });
    const changed = { ...stored, handles: [handleOf("net.Orphan", { [BLOCK]: 2 }, "2")] };
    expect(take(changed, nodes, { nowMs: GRACE_MS, before: sightings }).handles).toEqual([]);
  });

  it("leaves handles and claims alone that count a block which cannot be read", () => {
    const plan = takeTwice(
      {
        unreadable: ["10-0-0-0-30"],
        handles: [handleOf("net.a", { [BLOCK]: 1 })],
        affinities: [affinityOf("node-a", BLOCK)],
      },
      nodes,
    );
    expect([plan.handles, plan.releases, plan.damaged]).toEqual([[], [], ["10-0-0-0-30"]]);
  });

  it("leaves handles alone that count a damaged block, which may have lost their names", () => {
    const broken = asBlock({ ...blockOf(BLOCK, "node-a", [gone]).spec, attributes: [] });
    const plan = takeTwice({ blocks: [broken], handles: [handleOf(gone.handleID, { [BLOCK]: 1 })] }, nodes);
    expect([plan.handles, plan.damaged]).toEqual([[], ["10-0-0-0-30"]]);
  });

  it("leaves a handle alone for as long as an ADD may take", () => {
    const stored = { handles: [handleOf("net.orphan", { [BLOCK]: 1 })] };
    expect(takeTwice(stored, nodes, { handleGraceMs: GRACE_MS + 1 }).handles).toEqual([]);
  });
});

describe("Census: affinities and blocks", () => {
  const releasesOf = (plan: CollectionPlan): string[] => plan.releases.map(({ why, cidr }) => `${why} ${cidr}`);

  it.each([
    ["of a deleted node, empty", { blocks: [blockOf(BLOCK, "node-a")] }, deleted, [`nodeGone ${BLOCK}`]],
    ["of a deleted node, in use", { blocks: [blockOf(BLOCK, "node-a", [live])] }, deleted, []],
    ["without a block", {}, nodes, [`noBlock ${BLOCK}`]],
    ["whose block is another's", { blocks: [blockOf(BLOCK, "node-b")] }, nodes, [`foreignBlock ${BLOCK}`]],
    ["whose block is nobody's", { blocks: [blockOf(BLOCK, undefined, [live])] }, nodes, [`foreignBlock ${BLOCK}`]],
    ["that is sound", { blocks: [blockOf(BLOCK, "node-a")] }, nodes, []],
  ])("a claim %s", (_, stored, view, expected) => {
    expect(releasesOf(takeTwice({ ...stored, affinities: [affinityOf("node-a", BLOCK)] }, view))).toEqual(expected);
  });

  it("ends a release that somebody began, or takes it back when the block is in use again", () => {
    const affinities = [affinityOf("node-a", BLOCK, "pendingDeletion")];
    expect(releasesOf(takeTwice({ blocks: [blockOf(BLOCK, "node-a")], affinities }, nodes))).toEqual([
      `unfinishedRelease ${BLOCK}`,
    ]);
    const inUse = takeTwice({ blocks: [blockOf(BLOCK, "node-a", [live])], affinities }, nodes);
    expect(releasesOf(inUse)).toEqual([]);
    expect(inUse.repairs.map(({ cidr }) => cidr)).toEqual([BLOCK]);
  });

  it("leaves virtual owners alone", () => {
    const affinity = affinityOf("load-balancer", BLOCK);
    const affinities = [{ ...affinity, spec: { ...affinity.spec, type: "virtual" } }];
    expect(takeTwice({ affinities }, nodes).releases).toEqual([]);
  });

  it("gives up empty blocks, but never a node's last, nor one whose going would make it claim another", () => {
    const cidrs = [BLOCK, "10.0.0.4/30", "10.0.0.8/30"];
    const affinities = cidrs.map((cidr) => affinityOf("node-a", cidr));
    const empty = cidrs.map((cidr) => blockOf(cidr, "node-a"));
    expect(releasesOf(takeTwice({ blocks: empty, affinities }, nodes))).toEqual([
      `surplus ${BLOCK}`,
      "surplus 10.0.0.4/30",
    ]);
    const full = blockOf(
      BLOCK,
      "node-a",
      [1, 2, 3].map((n) => ({ ...live, handleID: `net.${n}` })),
    );
    const pair = { blocks: [full, blockOf("10.0.0.4/30", "node-a")], affinities: affinities.slice(0, 2) };
    expect(releasesOf(takeTwice(pair, nodes))).toEqual([]);
  });

  it("removes empty blocks without an owner, and those of deleted nodes without a claim", () => {
    const blocks = [blockOf(BLOCK, undefined), blockOf("10.0.0.4/30", undefined, [live]), blockOf("10.0.0.8/30", "x")];
    const view = viewOf({ "node-a": nodeFacts() }, { "default/live": podFacts("node-a", ["10.0.0.4"]) });
    expect(takeTwice({ blocks }, view).removals.map(({ name, why }) => `${why} ${name}`)).toEqual([
      "unowned 10-0-0-0-30",
    ]);
    const third = take({ blocks }, view, { nowMs: 2 * GRACE_MS, before: takeTwice({ blocks }, view).sightings });
    expect(third.removals.map(({ name, why }) => `${why} ${name}`)).toContain("nodeGone 10-0-0-8-30");
  });

  it("finds tombstones that nobody finished", () => {
    const block = asBlock({ ...blockOf(BLOCK, "node-a").spec, deleted: true });
    const handle = handleOf("net.x", {});
    const handles = [{ ...handle, spec: { ...handle.spec, deleted: true } }];
    const affinity = affinityOf("node-a", BLOCK);
    const affinities = [{ ...affinity, spec: { ...affinity.spec, deleted: "true" } }];
    const plan = takeTwice({ blocks: [block], handles, affinities }, nodes);
    expect(plan.tombstones.map(({ kind }) => kind)).toEqual(["block", "handle", "affinity"]);
    expect(plan.releases).toEqual([]);
  });
});

describe("Census: addresses that cool down", () => {
  const MINUTE_MS = 60_000;
  const cooling = asBlock(
    cool(blockOf(BLOCK, "node-a", [gone, live]).spec, [0], { nowMs: 0, byAddress: new Set([0]) }),
  );
  const pruned = asBlock({ ...cooling.spec, attributes: cooling.spec.attributes.map((a) => (a.releasedAt ? {} : a)) });

  it("are no leaks and no damage, nor is what an old peer leaves of their record, and the block is in use", () => {
    const affinities = [affinityOf("node-a", BLOCK)];
    for (const block of [cooling, pruned]) {
      const plan = takeTwice({ blocks: [block], affinities }, deleted);
      expect(plan.addresses.flatMap(({ leaks }) => leaks.map(({ address }) => formatIP(address.ip)))).toEqual([
        "10.0.0.1",
      ]);
      expect([plan.damaged, plan.releases, plan.removals]).toEqual([[], [], []]);
    }
  });

  it("are left to the node until every cooldown that can be set is over", () => {
    const nowMs = 20 * MINUTE_MS;
    expect(take({ blocks: [cooling] }, nodes, { nowMs }).cold).toEqual([]);
    expect(take({ blocks: [cooling] }, nodes, { nowMs: nowMs + 1 }).cold).toEqual(["10-0-0-0-30"]);
    expect(take({ blocks: [pruned] }, nodes, { nowMs: nowMs + 1 }).cold).toEqual([]);
  });
});

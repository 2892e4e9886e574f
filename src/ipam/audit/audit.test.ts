// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { InvalidObjectError } from "../../crds/errors.ts";
import type { ObjectMeta } from "../../crds/object.ts";
import { affinityOf, blockOf, calicosOwn, handleOf, nodeFacts, podAttributes, podFacts } from "../gc/fake-cluster.ts";
import { audit } from "./audit.ts";
import {
  auditPodOf,
  BLOCK_A,
  changed,
  NOW_MS,
  podsOf,
  poolOf,
  reservationOf,
  SOUND,
  snapshotOf,
} from "./fake-snapshot.ts";
import { describeFix, type Finding, type FindingCode, persistent } from "./finding.ts";
import type { Snapshot } from "./snapshot.ts";

const CIDR = "10.0.0.0/30";
const HOUR_MS = 3_600_000;
const ago = (ms: number): string => new Date(NOW_MS - ms).toISOString();

function withMeta<T extends { readonly metadata: ObjectMeta }>(object: T, metadata: Record<string, unknown>): T {
  return { ...object, metadata: { ...object.metadata, ...metadata } };
}

/** Written once, long ago. */
function atRest<T extends { readonly metadata: ObjectMeta }>(object: T): T {
  return withMeta(object, { managedFields: [{ time: ago(HOUR_MS) }] });
}

/** One line a finding: severity, code, object, address, and what --fix does. */
function lines(findings: readonly Finding[]): string[] {
  return findings.map(({ severity, code, object, address, fix }) => {
    const where = `${object.kind} ${object.name}${address === undefined ? "" : ` ${address}`}`;
    return `${severity} ${code}: ${where}${fix === undefined ? "" : ` -> ${describeFix(fix)}`}`;
  });
}

const found = (changes: Partial<Snapshot>, watchedMs?: number): string[] =>
  lines(audit(snapshotOf(changes), watchedMs));

const allocated = (attributes: readonly Record<string, unknown>[]): typeof BLOCK_A =>
  changed(BLOCK_A, {
    allocations: [0, ...attributes.map((_, i) => i + 1), ...Array<null>(3 - attributes.length).fill(null)],
    unallocated: [1, 2, 3].slice(attributes.length),
    attributes: [...BLOCK_A.spec.attributes, ...attributes],
  });
const tunnel = { node: "gone", type: "vxlanTunnelAddress" };

/** What makes each finding, and just what is found then. `audit` must know every code here. */
const CASES: Readonly<Record<FindingCode, readonly [Partial<Snapshot>, readonly string[], watchedMs?: number]>> = {
  invalidObject: [
    { invalid: [new InvalidObjectError("IPAMBlock", "10-0-9-0-26", "spec.cidr", 7, "a network")] },
    ["error invalidObject: IPAMBlock 10-0-9-0-26"],
  ],
  damagedBlock: [
    { blocks: [changed(BLOCK_A, { unallocated: [1, 1, 3] })] },
    ["error damagedBlock: IPAMBlock 10-0-0-0-30"],
  ],
  unreferencedAttribute: [
    { blocks: [changed(BLOCK_A, { attributes: [...BLOCK_A.spec.attributes, { handle_id: "net.old" }] })] },
    ["warning unreferencedAttribute: IPAMBlock 10-0-0-0-30"],
  ],
  releasedInFuture: [
    { blocks: [allocated([{ releasedAt: "2099-01-01T00:00:00Z" }])] },
    ["warning releasedInFuture: IPAMBlock 10-0-0-0-30"],
  ],
  namelessAddress: [{ blocks: [allocated([{}])] }, ["warning namelessAddress: IPAMBlock 10-0-0-0-30 10.0.0.1"]],
  wrongName: [
    {
      blocks: [withMeta(BLOCK_A, { name: "a" })],
      handles: [withMeta(SOUND.handles[0] as (typeof SOUND.handles)[0], { name: "h" })],
      affinities: [withMeta(affinityOf("node-a", CIDR), { name: "c" })],
    },
    ["error wrongName: IPAMBlock a", "error wrongName: IPAMHandle h", "warning wrongName: BlockAffinity c"],
  ],
  overlappingBlocks: [
    {
      blocks: [BLOCK_A, blockOf("10.0.0.2/31", "node-a")],
      affinities: [affinityOf("node-a", CIDR), affinityOf("node-a", "10.0.0.2/31")],
    },
    ["error overlappingBlocks: IPAMBlock 10-0-0-2-31"],
  ],
  overlappingPools: [
    { pools: [poolOf("pool", "10.0.0.0/16"), poolOf("wide", "10.0.0.0/8")] },
    ["error overlappingPools: IPPool pool"],
  ],
  unusableSelector: [
    { pools: [poolOf("pool", "10.0.0.0/16", { nodeSelector: "x ==", namespaceSelector: "(" })] },
    ["error unusableSelector: IPPool pool", "error unusableSelector: IPPool pool"],
  ],
  unreadableReservation: [
    { reservations: [reservationOf("r", "10.0.0.9", "10.0.0", " 10.0.1.0/24 ")] },
    ["warning unreadableReservation: IPReservation r"],
  ],
  blockOutsidePools: [{ pools: [] }, ["warning blockOutsidePools: IPAMBlock 10-0-0-0-30"]],
  blockWithoutAffinity: [
    { affinities: [] },
    [`warning blockWithoutAffinity: IPAMBlock 10-0-0-0-30 -> create the BlockAffinity of node-a for its block ${CIDR}`],
  ],
  unownedBlock: [
    { blocks: [BLOCK_A, blockOf("10.0.0.4/30", undefined)] },
    ["warning unownedBlock: IPAMBlock 10-0-0-4-30 -> delete empty IPAMBlock 10-0-0-4-30"],
  ],
  affinityWithoutBlock: [
    { affinities: [affinityOf("node-a", CIDR), atRest(affinityOf("node-a", "10.0.0.4/30"))] },
    ["warning affinityWithoutBlock: BlockAffinity node-a-10-0-0-4-30 -> give up BlockAffinity node-a-10-0-0-4-30"],
  ],
  affinityOfForeignBlock: [
    { affinities: [affinityOf("node-a", CIDR), atRest(affinityOf("node-b", CIDR))] },
    ["error affinityOfForeignBlock: BlockAffinity node-b-10-0-0-0-30 -> give up BlockAffinity node-b-10-0-0-0-30"],
  ],
  unfinishedClaim: [
    { affinities: [atRest(affinityOf("node-a", CIDR, "pending"))] },
    ["warning unfinishedClaim: BlockAffinity node-a-10-0-0-0-30 -> confirm BlockAffinity node-a-10-0-0-0-30"],
  ],
  unfinishedRelease: [
    {
      blocks: [BLOCK_A, blockOf("10.0.0.4/30", "node-a")],
      affinities: ["10.0.0.0/30", "10.0.0.4/30"].map((cidr) => atRest(affinityOf("node-a", cidr, "pendingDeletion"))),
    },
    [
      "error unfinishedRelease: BlockAffinity node-a-10-0-0-0-30 -> confirm BlockAffinity node-a-10-0-0-0-30",
      "warning unfinishedRelease: BlockAffinity node-a-10-0-0-4-30 -> give up BlockAffinity node-a-10-0-0-4-30 and its empty block 10.0.0.4/30",
    ],
  ],
  missingLabels: [
    { affinities: [withMeta(affinityOf("node-a", CIDR), { labels: {} })] },
    ["warning missingLabels: BlockAffinity node-a-10-0-0-0-30 -> label BlockAffinity node-a-10-0-0-0-30"],
  ],
  staleTombstone: [
    {
      blocks: [BLOCK_A, changed(blockOf("10.0.0.4/30", undefined), { deleted: true })],
      handles: [...SOUND.handles, { ...handleOf("net.b", {}), spec: { handleID: "net.b", block: {}, deleted: true } }],
      affinities: [affinityOf("node-a", CIDR), tombstone("node-b", "10.0.0.4/30")],
    },
    [
      "warning staleTombstone: BlockAffinity node-b-10-0-0-4-30 -> finish the deletion of affinity node-b-10-0-0-4-30",
      "warning staleTombstone: IPAMBlock 10-0-0-4-30 -> finish the deletion of block 10-0-0-4-30",
      "warning staleTombstone: IPAMHandle net.b -> finish the deletion of handle net.b",
    ],
  ],
  unknownNode: [
    {
      blocks: [BLOCK_A, blockOf("10.0.0.4/30", "gone"), blockOf("10.0.0.8/30", "lost")],
      affinities: [affinityOf("node-a", CIDR), atRest(affinityOf("gone", "10.0.0.4/30"))],
    },
    [
      "warning unknownNode: BlockAffinity gone-10-0-0-4-30 -> give up BlockAffinity gone-10-0-0-4-30 and its empty block 10.0.0.4/30",
      "warning unknownNode: IPAMBlock 10-0-0-8-30 -> delete empty IPAMBlock 10-0-0-8-30",
    ],
  ],
  orphanHandle: [
    { handles: [...SOUND.handles, atRest(handleOf("net.b", { [CIDR]: 1 })), handleOf("net.c", {})] },
    [
      "warning orphanHandle: IPAMHandle net.b -> delete IPAMHandle net.b, which no address names",
      "warning orphanHandle: IPAMHandle net.c",
    ],
  ],
  handleCountsTooMany: [
    { handles: [atRest(handleOf("net.a", { [CIDR]: 2, "10.0.0.4/30": 1 }))] },
    [`warning handleCountsTooMany: IPAMHandle net.a -> set the counts of IPAMHandle net.a to 1 in ${CIDR}`],
  ],
  handleCountsTooFew: [
    { handles: [handleOf("net.a", { "10.0.0.4/30": 1 })] },
    [
      `error handleCountsTooFew: IPAMHandle net.a -> set the counts of IPAMHandle net.a to 1 in ${CIDR}, 1 in 10.0.0.4/30`,
    ],
  ],
  missingHandle: [
    { handles: [] },
    [`error missingHandle: IPAMHandle net.a -> create IPAMHandle net.a with 1 in ${CIDR}`],
  ],
  leakedAddress: [
    { pods: new Map() },
    [
      `warning leakedAddress: IPAMBlock 10-0-0-0-30 10.0.0.0 -> free 10.0.0.0 of handle net.a (sequence number ${BLOCK_A.spec.sequenceNumberForAllocation["0"]})`,
    ],
    60_000,
  ],
  leakInDoubt: [
    { pods: new Map(), nodes: new Map([["node-a", nodeFacts({ inUse: ["10.0.0.0"] })]]) },
    ["info leakInDoubt: IPAMBlock 10-0-0-0-30 10.0.0.0"],
  ],
  noOwner: [
    {
      blocks: [allocated([{ handle_id: "by.hand", secondary: {} }, { secondary: { note: "x" } }])],
      handles: [...SOUND.handles, handleOf("by.hand", { [CIDR]: 1 })],
    },
    ["warning noOwner: IPAMBlock 10-0-0-0-30 10.0.0.1", "warning noOwner: IPAMBlock 10-0-0-0-30 10.0.0.2"],
  ],
  unknownOwner: [
    {
      blocks: [
        allocated([{ handle_id: "lb", secondary: { service: "web", namespace: "default", type: "LoadBalancer" } }]),
      ],
      handles: [...SOUND.handles, handleOf("lb", { [CIDR]: 1 })],
    },
    ["info unknownOwner: IPAMBlock 10-0-0-0-30 10.0.0.1"],
  ],
  duplicateAddress: [
    {
      blocks: [changed(BLOCK_A, { attributes: [{ handle_id: "net.a", secondary: podAttributes("node-a", "b") }] })],
      pods: podsOf(auditPodOf("node-a", "b", "10.0.0.0"), auditPodOf("node-a", "c", "10.0.0.0")),
    },
    ["error duplicateAddress: Pod default/c 10.0.0.0"],
  ],
  addressOfAnother: [
    {
      pods: podsOf(auditPodOf("node-a", "b", "10.0.0.0"), { ...auditPodOf("node-a", "a"), ...podFacts("node-a", []) }),
    },
    ["error addressOfAnother: Pod default/b 10.0.0.0"],
  ],
  podAddressNotAllocated: [
    {
      pods: podsOf(
        ...SOUND.pods.values(),
        auditPodOf("node-a", "b", "10.0.0.1"),
        auditPodOf("node-a", "c", "10.0.9.9"),
      ),
    },
    ["error podAddressNotAllocated: Pod default/b 10.0.0.1", "error podAddressNotAllocated: Pod default/c 10.0.9.9"],
  ],
  podAddressOutsidePools: [
    { pods: podsOf(...SOUND.pods.values(), auditPodOf("node-a", "b", "192.0.2.1")) },
    ["warning podAddressOutsidePools: Pod default/b 192.0.2.1"],
  ],
  datastoreLocked: [
    { information: { datastoreReady: false } },
    ["warning datastoreLocked: ClusterInformation default"],
  ],
  noNodes: [{ nodes: new Map() }, ["info noNodes: Node "]],
};

function tombstone(node: string, cidr: string): ReturnType<typeof affinityOf> {
  const affinity = affinityOf(node, cidr);
  return { ...affinity, spec: { ...affinity.spec, deleted: "true" } };
}

describe("audit()", () => {
  it("finds nothing in a cluster that is in order", () => {
    expect(audit(SOUND)).toEqual([]);
  });

  it.each(Object.entries(CASES))("finds %s, and nothing else", (_code, [changes, expected, watchedMs]) => {
    expect(found(changes, watchedMs)).toEqual(expected);
  });

  it("gives each finding a reason and a next step", () => {
    for (const [changes] of Object.values(CASES)) {
      for (const { reason, nextStep } of audit(snapshotOf(changes))) {
        expect(reason).toMatch(/\w+ \w+/);
        expect(nextStep).toMatch(/\w/);
      }
    }
  });

  it("does not depend on the order of objects", () => {
    const all = Object.values(CASES).map(([changes]) => snapshotOf(changes));
    for (const snapshot of all) {
      const { blocks, handles, affinities, pools } = snapshot;
      const reversed = {
        ...snapshot,
        blocks: blocks.toReversed(),
        handles: handles.toReversed(),
        affinities: affinities.toReversed(),
        pools: pools.toReversed(),
        pods: new Map([...snapshot.pods].reverse()),
      };
      expect(lines(audit(reversed))).toEqual(lines(audit(snapshot)));
    }
  });

  it("asks nothing of pods on the host's network, of finished ones, and of addresses that are cooling", () => {
    const host = { ...auditPodOf("node-a", "h", "192.0.2.1"), hostNetwork: true };
    const done = { ...auditPodOf("node-a", "d", "10.0.0.3"), isFinished: true };
    const blocks = [allocated([{ releasedAt: ago(1000) }])];
    expect(found({ blocks, pods: podsOf(...SOUND.pods.values(), host, done) })).toEqual([]);
  });

  it("lets a disabled pool lie around others, and minds enabled ones that overlap across it", () => {
    const outer = poolOf("outer", "10.0.0.0/8", { disabled: true });
    const pool = poolOf("pool", "10.0.0.0/16");
    expect(found({ pools: [pool, outer] })).toEqual([]);
    const between = poolOf("between", "10.0.0.0/12", { disabled: true });
    expect(found({ pools: [pool, between, poolOf("outer", "10.0.0.0/8")] })).toEqual([
      "error overlappingPools: IPPool pool",
    ]);
  });

  it("takes an address without a block in a disabled pool for another plugin's", () => {
    const pods = podsOf(...SOUND.pods.values(), auditPodOf("node-a", "b", "10.0.9.9"));
    const pools = [poolOf("pool", "10.0.0.0/16", { disabled: true })];
    expect(found({ pods, pools })).toEqual(["warning podAddressOutsidePools: Pod default/b 10.0.9.9"]);
  });

  it("calls an address not allocated that its pod has and that cools", () => {
    const blocks = [allocated([{ releasedAt: ago(1000) }])];
    const pods = podsOf(...SOUND.pods.values(), auditPodOf("node-a", "b", "10.0.0.1"));
    expect(found({ blocks, pods })).toEqual(["error podAddressNotAllocated: Pod default/b 10.0.0.1"]);
  });
});

describe("audit(): what has a fix", () => {
  it("frees no leak that was not watched for a minute", () => {
    expect(found({ pods: new Map() }, 59_999)).toEqual(["warning leakedAddress: IPAMBlock 10-0-0-0-30 10.0.0.0"]);
  });

  it("frees no leak while another address of its handle is in use", () => {
    const shared = changed(BLOCK_A, { allocations: [0, 0, null, null], unallocated: [2, 3] });
    const handles = [handleOf("net.a", { [CIDR]: 2 })];
    expect(found({ blocks: [shared], handles }, HOUR_MS)).toEqual([
      "warning leakedAddress: IPAMBlock 10-0-0-0-30 10.0.0.1",
    ]);
  });

  it("frees a tunnel of a node that is gone only after the node's other addresses", () => {
    const blocks = [
      allocated([
        { handle_id: "t", secondary: tunnel },
        { handle_id: "net.b", secondary: podAttributes("gone", "b") },
      ]),
    ];
    const handles = [...SOUND.handles, handleOf("t", { [CIDR]: 1 }), handleOf("net.b", { [CIDR]: 1 })];
    const fixes = audit(snapshotOf({ blocks, handles }), HOUR_MS).map(({ address, fix }) => `${address} ${fix?.kind}`);
    expect(fixes).toEqual(["10.0.0.1 undefined", "10.0.0.2 freeLeak"]);
  });

  it("draws no conclusion from a block that cannot be read: what counts, claims or reports it is left alone", () => {
    const cidr = "10.0.9.0/26";
    const invalid = [new InvalidObjectError("IPAMBlock", "10-0-9-0-26", "spec.allocations", 7, "a list")];
    const dual = handleOf("net.a", { [CIDR]: 1, [cidr]: 1 });
    const handles = [dual, handleOf("net.b", { [cidr]: 1 })].map(atRest);
    const affinities = [...SOUND.affinities, atRest(affinityOf("node-a", cidr))];
    const pods = podsOf(auditPodOf("node-a", "a", "10.0.0.0"), auditPodOf("node-a", "b", "10.0.9.5"));
    expect(found({ invalid, handles, affinities, pods }, HOUR_MS)).toEqual([
      "error invalidObject: IPAMBlock 10-0-9-0-26",
    ]);
  });

  it("draws no conclusion from a damaged block: its handles, its claim and its pods are left alone", () => {
    const blocks = [changed(BLOCK_A, { unallocated: [1, 1, 3] })];
    const pods = podsOf(auditPodOf("node-a", "b", "10.0.0.2"));
    expect(found({ blocks, pods, handles: [atRest(handleOf("net.a", {}))] }, HOUR_MS)).toEqual([
      "error damagedBlock: IPAMBlock 10-0-0-0-30",
    ]);
  });

  it("draws no conclusion from a damaged block that has lost its owners: whose they were, only handles say", () => {
    const blocks = [changed(BLOCK_A, { attributes: [] })];
    const handles = SOUND.handles.map(atRest);
    expect(found({ blocks, handles }, HOUR_MS)).toEqual(["error damagedBlock: IPAMBlock 10-0-0-0-30"]);
  });

  it.each([
    ["young", { managedFields: [{ time: ago(HOUR_MS) }, { time: ago(1000) }] }, 0, undefined],
    ["of unknown age", {}, 0, undefined],
    ["of unknown age and watched", {}, 600_000, "deleteHandle"],
    ["of the first generation and old", { generation: 1, creationTimestamp: ago(HOUR_MS) }, 0, "deleteHandle"],
    ["of a later generation and old", { generation: 2, creationTimestamp: ago(HOUR_MS) }, 0, undefined],
  ])("an orphan handle that is %s", (_what, metadata, watchedMs, kind) => {
    const handles = [...SOUND.handles, withMeta(handleOf("net.b", {}), metadata)];
    expect(audit(snapshotOf({ handles }), watchedMs).map(({ fix }) => fix?.kind)).toEqual([kind]);
  });
});

describe("audit(): what Calico keeps for Windows, load balancers and virtual machines", () => {
  it("is nobody's problem and is not mended, whether its nodes are there or gone", () => {
    const own = calicosOwn();
    const blocks = [...SOUND.blocks, ...own.blocks];
    const handles = [...SOUND.handles, ...own.handles];
    const affinities = [...SOUND.affinities, ...own.affinities];
    const nodes = new Map([...SOUND.nodes, ["win-1", nodeFacts()] as const]);
    const info = ["10.0.2.0", "10.0.3.0", "10.0.3.1"].map((ip) => {
      const name = `10-0-${ip.split(".")[2]}-0-30`;
      return `info unknownOwner: IPAMBlock ${name} ${ip}`;
    });
    expect(found({ blocks, handles, affinities, nodes }, HOUR_MS)).toEqual(info);
    const left = audit(snapshotOf({ blocks, handles, affinities: affinities.map(atRest) }), HOUR_MS);
    expect(lines(left.filter(({ object }) => object.name !== "win-1-10-0-1-0-29"))).toEqual(info);
  });
});

describe("audit(): claims at work", () => {
  const claims = [
    affinityOf("node-a", CIDR, "pending"),
    affinityOf("node-a", "10.0.0.4/30"),
    affinityOf("node-b", CIDR),
  ];
  const fixes = (watchedMs: number, more: Record<string, unknown> = {}): readonly (string | undefined)[] => {
    const affinities = claims.map((claim) => withMeta(claim, more));
    return audit(snapshotOf({ affinities }), watchedMs).map(({ fix }) => fix?.kind);
  };

  it("are mended only when nobody has written them for a minute", () => {
    expect(fixes(59_999)).toEqual([undefined, undefined, undefined]);
    expect(fixes(0, { managedFields: [{ time: ago(59_999) }] })).toEqual([undefined, undefined, undefined]);
    expect(fixes(60_000)).toEqual(["releaseAffinity", "releaseAffinity", "confirmAffinity"]);
  });

  it("are not told to lack labels as well: what mends them writes the labels", () => {
    expect(fixes(60_000, { labels: {} })).toEqual(["releaseAffinity", "releaseAffinity", "confirmAffinity"]);
  });
});

describe("persistent()", () => {
  it("keeps what both looks found and nobody touched in between", () => {
    const orphan = handleOf("net.b", {}, "7");
    const look = (...handles: (typeof orphan)[]): readonly Finding[] =>
      audit(snapshotOf({ handles: [...SOUND.handles, ...handles] }));
    expect(lines(persistent(look(orphan), look(orphan)))).toEqual(["warning orphanHandle: IPAMHandle net.b"]);
    expect(persistent(look(orphan), look(handleOf("net.b", {}, "8")))).toEqual([]);
    expect(persistent(look(), look(orphan))).toEqual([]);
  });
});

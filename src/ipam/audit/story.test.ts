// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { OWNER_LABELS } from "../../crds/ip-reservation.ts";
import { parseIP } from "../../net/ip.ts";
import { affinityOf, blockOf, podAttributes } from "../gc/fake-cluster.ts";
import { auditPodOf, BLOCK_A, changed, podsOf, reservationOf, SOUND, snapshotOf } from "./fake-snapshot.ts";
import type { Snapshot } from "./snapshot.ts";
import { type AddressStory, storyOf } from "./story.ts";

const tell = (address: string, changes: Partial<Snapshot> = {}): AddressStory =>
  storyOf(parseIP(address), snapshotOf(changes));

describe("storyOf()", () => {
  it("tells all of an address in use", () => {
    expect(tell("10.0.0.0")).toEqual({
      address: "10.0.0.0",
      state: "held",
      pool: { name: "pool", cidr: "10.0.0.0/16", isEnabled: true },
      block: {
        name: "10-0-0-0-30",
        cidr: "10.0.0.0/30",
        ordinal: 0,
        owner: "host:node-a",
        claim: "confirmed",
        isDamaged: false,
      },
      handleID: "net.a",
      hasHandle: true,
      sequenceNumber: 1_787_395_200_123_456_789n,
      attributes: podAttributes("node-a", "a"),
      since: "2026-08-22 10:40:00 +0000 UTC",
      node: "node-a",
      nodeExists: true,
      pod: "default/a",
      podExists: true,
      podReportsIt: true,
      verdict: { kind: "keep", why: "podHoldsIt" },
      reportedBy: ["default/a"],
      isBorrowed: false,
      reservations: [],
      route: "to node-a, by its block 10.0.0.0/30",
    });
  });

  it.each([
    ["free", "10.0.0.1", {}],
    ["noBlock", "10.0.0.4", {}],
    ["broken", "10.0.0.0", { blocks: [changed(BLOCK_A, { attributes: [] })] }],
    ["nameless", "10.0.0.0", { blocks: [changed(BLOCK_A, { attributes: [{}] })] }],
    ["unhandled", "10.0.0.0", { blocks: [changed(BLOCK_A, { attributes: [{ secondary: { note: "x" } }] })] }],
    ["cooling", "10.0.0.0", { blocks: [changed(BLOCK_A, { attributes: [{ releasedAt: "2026-08-22T10:00:00Z" }] })] }],
    [
      "windows",
      "10.0.0.0",
      { blocks: [changed(BLOCK_A, { attributes: [{ handle_id: "windows-reserved-ipam-handle" }] })] },
    ],
  ] as const)("calls an address %s", (state, address, changes) => {
    expect(tell(address, changes).state).toBe(state);
  });

  it("tells that an address is borrowed, and who gets its packets", () => {
    const holder = { handleID: "net.b", attributes: podAttributes("node-b", "b") };
    const story = tell("10.0.0.0", { blocks: [blockOf("10.0.0.0/30", "node-a", [holder])] });
    expect([story.isBorrowed, story.route]).toEqual([true, "to node-b, by a route of its own (borrowed)"]);
  });

  it.each([
    ["to nobody for certain: node-a owns block 10.0.0.0/30 without a BlockAffinity", { affinities: [] }],
    ["to nobody: the claim of node-a is pending", { affinities: [affinityOf("node-a", "10.0.0.0/30", "pending")] }],
    ["to nobody: nobody owns its block", { blocks: [blockOf("10.0.0.0/30", undefined)] }],
    ["to nobody: it is in no block", { blocks: [] }],
  ])("routes it %s", (route, changes) => {
    expect(tell("10.0.0.3", changes).route).toBe(route);
  });

  it("tells of every block with the address, and who has it there", () => {
    const holder = { handleID: "net.b", attributes: podAttributes("node-b", "b") };
    const outer = blockOf("10.0.0.0/29", "node-b", [holder]);
    const story = tell("10.0.0.0", { blocks: [outer, BLOCK_A] });
    expect(story).toMatchObject({ block: { name: "10-0-0-0-30" }, handleID: "net.a" });
    expect(story.otherBlocks).toEqual([
      {
        name: "10-0-0-0-29",
        cidr: "10.0.0.0/29",
        ordinal: 0,
        owner: "host:node-b",
        isDamaged: false,
        state: "held",
        handleID: "net.b",
      },
    ]);
    expect(tell("10.0.0.4", { blocks: [outer, BLOCK_A] }).otherBlocks).toBeUndefined();
  });

  it("tells that node, pod and handle are missing, and who else reports the address", () => {
    const pods = podsOf(auditPodOf("node-a", "b", "10.0.0.0"));
    expect(tell("10.0.0.0", { pods, handles: [], nodes: new Map() })).toMatchObject({
      nodeExists: false,
      podExists: false,
      podReportsIt: false,
      hasHandle: false,
      reportedBy: ["default/b"],
    });
    expect(tell("10.0.0.0", { pods }).verdict).toEqual({ kind: "leak", why: "podGone" });
  });

  it("names the reservation that holds it, and for whom", () => {
    const [plain, owned] = [reservationOf("plain", "10.0.0.0/30"), reservationOf("owned", "10.0.0.0")];
    const labels = { [OWNER_LABELS.kind]: "Pod", [OWNER_LABELS.namespace]: "default", [OWNER_LABELS.name]: "a" };
    const reservations = [plain, { ...owned, metadata: { name: "owned", labels } }];
    expect(tell("10.0.0.0", { reservations }).reservations).toEqual([
      { name: "plain" },
      { name: "owned", for: "Pod default/a" },
    ]);
    expect(storyOf(parseIP("10.0.0.9"), { ...SOUND, reservations }).reservations).toEqual([]);
  });
});

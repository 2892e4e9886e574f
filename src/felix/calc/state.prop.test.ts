// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { BlockAffinity } from "../../crds/block-affinity.ts";
import type { Node } from "../../crds/core.ts";
import type { IPPool } from "../../crds/ip-pool.ts";
import { parseCIDR } from "../../net/cidr.ts";
import { fakeAffinity, fakeBorrowed, fakeEndpoint, fakeNode, fakePool } from "../fake-resources.ts";
import type { WorkloadEndpoint } from "../ports.ts";
import type { Route } from "./block-routes.ts";
import type { BorrowedBlock } from "./borrowed.ts";
import { CalcState } from "./state.ts";

/** A small world, so that everything collides with everything: blocks of three sizes inside two pools, some node IPs. */
const NODES = ["node-a", "node-b", "node-c"];
const CIDRS = ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/31", "10.0.0.1/32", "10.0.0.2/32", "10.1.0.0/30", "fd00::/126"];
const IPS = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "fd00::1"];

const node = fc
  .record({
    name: fc.constantFrom(...NODES),
    ips: fc.uniqueArray(fc.constantFrom(...IPS, "192.0.2.1", "bad"), { maxLength: 2 }),
    annotation: fc.option(fc.constantFrom("10.0.0.2/24", "198.51.100.1/24", "")),
    tunnelIP: fc.option(fc.constantFrom("10.0.0.1", "10.0.0.2", "fd00::1")),
    ipipIP: fc.option(fc.constantFrom("10.0.0.1", "10.0.0.2", "bad")),
  })
  .map(({ name, ips, annotation, tunnelIP, ipipIP }) =>
    fakeNode(name, ips, {
      ...(annotation !== null && { "projectcalico.org/IPv4Address": annotation }),
      ...(ipipIP !== null && { "projectcalico.org/IPv4IPIPTunnelAddr": ipipIP }),
      ...(tunnelIP !== null && { "projectcalico.org/IPv4VXLANTunnelAddr": tunnelIP }),
    }),
  );
const affinity = fc
  .record({
    node: fc.constantFrom(...NODES),
    cidr: fc.constantFrom(...CIDRS),
    state: fc.constantFrom("confirmed" as const, "" as const, "pending" as const),
    createdAt: fc.constantFrom(undefined, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
  })
  .map(({ node: name, cidr, state, createdAt }) => fakeAffinity(name, cidr, { state }, createdAt));
const pool = fc
  .record({
    name: fc.constantFrom("p", "q"),
    cidr: fc.constantFrom("10.0.0.0/16", "10.0.0.0/30", "fd00::/64", "bad"),
    ipipMode: fc.constantFrom("Never" as const, "Always" as const),
    vxlanMode: fc.constantFrom("Never" as const, "Always" as const, "CrossSubnet" as const),
    allowedUses: fc.constantFrom(["Workload" as const], ["LoadBalancer" as const]),
  })
  .map(({ name, cidr, ...spec }) => fakePool(name, cidr, spec));
const endpoint = fc
  .record({
    key: fc.constantFrom("1", "2"),
    ifIndex: fc.integer({ min: 0, max: 3 }),
    ips: fc.uniqueArray(fc.constantFrom(...IPS)),
  })
  .map(({ key, ifIndex, ips }) => fakeEndpoint(key, ifIndex, ...ips));
const borrowed = fc
  .record({
    name: fc.constantFrom("block-1", "block-2"),
    borrowers: fc.dictionary(fc.constantFrom(...IPS), fc.constantFrom(...NODES)),
  })
  .map(({ name, borrowers }) => fakeBorrowed(name, borrowers));

const subnet = fc.record({ name: fc.constant("subnet"), cidr: fc.constantFrom("192.0.2.0/24", "10.0.0.0/24") });

const isEnabled = fc.option(fc.boolean(), { nil: undefined });
const overrides = fc.record({ vxlan: isEnabled, ipip: isEnabled }).map(({ vxlan, ipip }) => ({
  name: "overrides",
  value: { ...(vxlan !== undefined && { vxlan }), ...(ipip !== undefined && { ipip }) },
}));

type Op =
  | {
      readonly kind: "overrides";
      readonly object: { readonly name: string; readonly value: { readonly vxlan?: boolean; readonly ipip?: boolean } };
    }
  | { readonly kind: "subnet"; readonly object: { readonly name: string; readonly cidr: string } }
  | { readonly kind: "node"; readonly object: Node }
  | { readonly kind: "affinity"; readonly object: BlockAffinity }
  | { readonly kind: "pool"; readonly object: IPPool }
  | { readonly kind: "endpoint"; readonly object: WorkloadEndpoint }
  | { readonly kind: "borrowed"; readonly object: BorrowedBlock };

const op: fc.Arbitrary<Op> = fc.oneof(
  node.map((object) => ({ kind: "node" as const, object })),
  overrides.map((object) => ({ kind: "overrides" as const, object })),
  subnet.map((object) => ({ kind: "subnet" as const, object })),
  affinity.map((object) => ({ kind: "affinity" as const, object })),
  pool.map((object) => ({ kind: "pool" as const, object })),
  endpoint.map((object) => ({ kind: "endpoint" as const, object })),
  borrowed.map((object) => ({ kind: "borrowed" as const, object })),
);
const step = fc.record({ op, isDelete: fc.boolean(), flush: fc.boolean() });

function idOf({ kind, object }: Op): string {
  if (kind === "borrowed" || kind === "subnet" || kind === "overrides") return `${kind} ${object.name}`;
  return `${kind} ${kind === "endpoint" ? object.key : object.metadata.name}`;
}

function set(state: CalcState, { kind, object }: Op): void {
  if (kind === "node") state.setNode(object);
  else if (kind === "affinity") state.setAffinity(object);
  else if (kind === "pool") state.setPool(object);
  else if (kind === "overrides") state.setOverrides(object.value);
  else if (kind === "subnet") state.setLocalSubnet(4, parseCIDR(object.cidr));
  else if (kind === "borrowed") state.setBorrowed(object.name, object.addresses);
  else state.setEndpoint(object);
}

function remove(state: CalcState, { kind, object }: Op): void {
  if (kind === "node") state.deleteNode(object.metadata.name);
  else if (kind === "affinity") state.deleteAffinity(object.metadata.name);
  else if (kind === "pool") state.deletePool(object.metadata.name);
  else if (kind === "overrides") state.setOverrides({});
  else if (kind === "subnet") state.setLocalSubnet(4, undefined);
  else if (kind === "borrowed") state.deleteBorrowed(object.name);
  else state.deleteEndpoint(object.key);
}

describe("CalcState", () => {
  test("routes and findings depend on the present content alone, and the deltas add up to them", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const state = new CalcState("node-a");
        const content = new Map<string, Op>();
        const followed = new Map<string, Route>();
        const flush = (): void => {
          const { updated, removed } = state.flush();
          for (const [key, route] of updated) followed.set(key, route);
          for (const key of removed) followed.delete(key);
        };
        for (const { op: change, isDelete, flush: isFlush } of steps) {
          if (isDelete) {
            remove(state, change);
            content.delete(idOf(change));
          } else {
            set(state, change);
            content.set(idOf(change), change);
          }
          if (isFlush) flush();
        }
        flush();

        const fresh = new CalcState("node-a");
        for (const id of [...content.keys()].toSorted()) {
          const change = content.get(id);
          if (change !== undefined) set(fresh, change);
        }
        fresh.flush();
        const sorted = (routes: ReadonlyMap<string, Route>): [string, Route][] =>
          [...routes].toSorted(([a], [b]) => a.localeCompare(b));
        expect(sorted(state.routes)).toEqual(sorted(fresh.routes));
        expect(sorted(followed)).toEqual(sorted(fresh.routes));
        expect(state.findings()).toEqual(fresh.findings());
        expect(state.counts).toEqual(fresh.counts);
        expect([state.vxlan(4), state.vxlan(6)]).toEqual([fresh.vxlan(4), fresh.vxlan(6)]);
        expect(state.ipip).toEqual(fresh.ipip);
      }),
    );
  });
});

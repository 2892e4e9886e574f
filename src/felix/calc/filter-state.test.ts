// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { formatCIDR } from "../../net/cidr.ts";
import { formatIP, parseIP } from "../../net/ip.ts";
import { fakeEndpoint, fakeNode, fakePool } from "../fake-resources.ts";
import { FilterState } from "./filter-state.ts";

function shown(state: FilterState, hasNodes = true) {
  const { natPools, allPools, nodes, allowedSources } = state.contents(hasNodes);
  return {
    natPools: natPools.map(formatCIDR),
    allPools: allPools.map(formatCIDR),
    nodes: nodes.map(formatIP),
    allowedSources: allowedSources.map(({ hostIface, prefix }) => `${hostIface} ${formatCIDR(prefix)}`),
  };
}

const NOTHING = { natPools: [], allPools: [], nodes: [], allowedSources: [] };

describe("FilterState", () => {
  test("a disabled pool counts like any other; one for Services alone has no pods", () => {
    const state = new FilterState();
    state.setPool(fakePool("off", "10.0.0.0/16", { natOutgoing: true, disabled: true }));
    state.setPool(fakePool("plain", "10.1.0.0/16"));
    state.setPool(fakePool("services", "10.2.0.0/16", { allowedUses: ["LoadBalancer"] }));
    expect(shown(state)).toEqual({ ...NOTHING, natPools: ["10.0.0.0/16"], allPools: ["10.0.0.0/16", "10.1.0.0/16"] });
    expect(state.hasNAT).toBe(true);
    state.deletePool("off");
    expect(state.hasNAT).toBe(false);
  });

  test("tunnels are those of any pool, disabled or not", () => {
    const state = new FilterState();
    expect(state.tunnels()).toEqual([]);
    state.setPool(fakePool("a", "10.0.0.0/16", { vxlanMode: "CrossSubnet", disabled: true }));
    state.setPool(fakePool("b", "10.1.0.0/16", { ipipMode: "Always" }));
    state.setPool(fakePool("c", "fd00::/64", { vxlanMode: "Always" }));
    expect(state.tunnels().map(({ device }) => device)).toEqual(["vxlan.calico", "vxlan-v6.calico", "tunl0"]);
    state.deletePool("a");
    expect(state.tunnels().map(({ device }) => device)).toEqual(["vxlan-v6.calico", "tunl0"]);
  });

  test("tunnels are those that settings switch on, and none that they switch off", () => {
    const state = new FilterState();
    state.setPool(fakePool("a", "10.0.0.0/16", { vxlanMode: "CrossSubnet" }));
    const encapsulation = { vxlan: false, ipip: true };
    expect(state.tunnels({ encapsulation }).map(({ device }) => device)).toEqual(["tunl0"]);
  });

  test("nodes are there only where a rule asks for them", () => {
    const state = new FilterState();
    state.setNode(fakeNode("a", ["192.0.2.1", "2001:db8::1"]));
    state.setNode(fakeNode("b", ["192.0.2.2"]));
    expect(shown(state).nodes).toEqual(["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
    expect(shown(state, false)).toEqual(NOTHING);
    state.deleteNode("a");
    expect(shown(state).nodes).toEqual(["192.0.2.2"]);
  });

  test("an endpoint's prefixes go with it, and one that is no CIDR allows nothing", () => {
    const state = new FilterState();
    state.setEndpoint({ ...fakeEndpoint("1", 5), allowedSourcePrefixes: ["10.9.0.0/16", "everything", "fd00::/8"] });
    expect(shown(state).allowedSources).toEqual(["cali1 10.9.0.0/16", "cali1 fd00::/8"]);
    state.setEndpoint(fakeEndpoint("1", 5));
    expect(shown(state)).toEqual(NOTHING);
  });

  test("the version changes with what matters and with nothing else", () => {
    const state = new FilterState();
    const changes = (act: () => void): boolean => {
      const before = state.version;
      act();
      return state.version !== before;
    };
    const pool = fakePool("a", "10.0.0.0/16");
    expect(changes(() => state.setPool(pool))).toBe(true);
    expect(
      changes(() => state.setPool({ ...pool, spec: { ...pool.spec, disabled: true, nodeSelector: "x == 'y'" } })),
    ).toBe(false);
    expect(changes(() => state.setPool({ ...pool, spec: { ...pool.spec, natOutgoing: true } }))).toBe(true);
    expect(changes(() => state.setPool({ ...pool, spec: { cidr: "nonsense" } }))).toBe(true);
    expect(changes(() => state.deletePool("a"))).toBe(false);
    expect(changes(() => state.setNode(fakeNode("n", ["192.0.2.1"])))).toBe(true);
    expect(changes(() => state.setNode(fakeNode("n", ["192.0.2.1"], { other: "annotation" })))).toBe(false);
    // The path of every ADD and DEL.
    const endpoint = { ...fakeEndpoint("1", 0), ips: [parseIP("10.0.0.5")] };
    expect(changes(() => state.setEndpoint(endpoint))).toBe(false);
    expect(changes(() => state.setEndpoint({ ...endpoint, hostIfIndex: 5, isWired: true }))).toBe(false);
    expect(changes(() => state.deleteEndpoint("1"))).toBe(false);
    expect(changes(() => state.setEndpoint({ ...endpoint, allowedSourcePrefixes: ["10.0.0.0/8"] }))).toBe(true);
    expect(changes(() => state.deleteEndpoint("1"))).toBe(true);
  });
});

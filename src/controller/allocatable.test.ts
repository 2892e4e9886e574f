// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ALLOCATABLE, effectiveIPPool, type IPPool } from "../crds/ip-pool.ts";
import { cidrsOverlap, parseCIDR } from "../net/cidr.ts";
import { allocatableCondition, decideAllocatable } from "./allocatable.ts";
import { poolObject } from "./fake-pools.ts";

const OLD = { creationTimestamp: "2026-01-01T00:00:00Z" };
const NEW = { creationTimestamp: "2026-02-01T00:00:00Z" };
const refused = [{ type: ALLOCATABLE, status: "False", reason: "CIDROverlap" }];

function reasons(...pools: readonly IPPool[]): Record<string, string> {
  return Object.fromEntries([...decideAllocatable(pools)].map(([name, { reason }]) => [name, reason]));
}

/** The pool as it is once its condition is written. */
function written(pool: IPPool, decided: ReturnType<typeof decideAllocatable>): IPPool {
  const found = decided.get(pool.metadata.name);
  return found === undefined ? pool : { ...pool, status: { conditions: [allocatableCondition(found)] } };
}

describe("decideAllocatable()", () => {
  it("keeps the older of two pools that overlap, whatever the order", () => {
    const young = poolObject("a", { cidr: "10.0.0.0/24" }, NEW);
    const old = poolObject("b", { cidr: "10.0.0.0/16" }, OLD);
    expect(reasons(young, old)).toEqual({ a: "CIDROverlap", b: "OK" });
    expect(reasons(old, young)).toEqual({ a: "CIDROverlap", b: "OK" });
  });

  it("keeps the one that is in use, although the other is older", () => {
    const used = poolObject("a", { cidr: "10.0.0.0/24" }, NEW);
    const old = poolObject("b", { cidr: "10.0.0.0/16" }, OLD, refused);
    expect(reasons(old, used)).toEqual({ a: "OK", b: "CIDROverlap" });
  });

  it("lets a pool that is disabled or being deleted stand in nobody's way", () => {
    const off = poolObject("a", { cidr: "10.0.0.0/16", disabled: true }, OLD);
    const going = poolObject("b", { cidr: "10.0.0.0/16" }, { ...OLD, deletionTimestamp: "2026-03-01T00:00:00Z" });
    const waiting = poolObject("c", { cidr: "10.0.0.0/16" }, NEW, refused);
    expect(reasons(off, going, waiting)).toEqual({ a: "PoolDisabled", b: "Terminating", c: "OK" });
  });

  it("does not compare families", () => {
    expect(reasons(poolObject("a", { cidr: "0.0.0.0/8" }), poolObject("b", { cidr: "::/16" }))).toEqual({
      a: "OK",
      b: "OK",
    });
  });

  it("leaves no two enabled pools that overlap, and decides the same again once it is written", () => {
    const any = fc.record({
      cidr: fc.constantFrom("10.0.0.0/16", "10.0.0.0/24", "10.0.1.0/24", "10.0.1.0/26", "10.1.0.0/24", "fd00::/64"),
      disabled: fc.boolean(),
      day: fc.integer({ min: 1, max: 4 }),
      isRefused: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(any, { maxLength: 8 }), (all) => {
        const pools = all.map(({ cidr, disabled, day, isRefused }, i) => {
          const metadata = { creationTimestamp: `2026-01-0${day}T00:00:00Z` };
          return poolObject(`pool-${i}`, { cidr, disabled }, metadata, isRefused ? refused : []);
        });
        const decided = decideAllocatable(pools);
        const after = pools.map((pool) => written(pool, decided));
        const enabled = after.map(effectiveIPPool).filter((pool) => pool.enabled);
        for (const [i, pool] of enabled.entries())
          for (const other of enabled.slice(i + 1)) expect(cidrsOverlap(pool.cidr, other.cidr)).toBe(false);
        // Of pools that are not disabled, one that overlaps nothing enabled is not refused.
        for (const { metadata, spec } of after) {
          if (spec.disabled || enabled.some(({ name }) => name === metadata.name)) continue;
          expect(enabled.some(({ cidr }) => cidrsOverlap(cidr, parseCIDR(spec.cidr)))).toBe(true);
        }
        const reasonsOf = (d: typeof decided) => [...d].map(([name, { reason }]) => `${name} ${reason}`).toSorted();
        expect(reasonsOf(decideAllocatable(after))).toEqual(reasonsOf(decided));
      }),
    );
  });
});

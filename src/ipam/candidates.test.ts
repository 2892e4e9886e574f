// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { blockOf, cidrCovers, cidrsOverlap, formatCIDR, ipAt, parseCIDR } from "../net/cidr.ts";
import { blockCandidates, type CandidatePool, coveringPool, fnv1, KnownBlocks } from "./candidates.ts";

function pool(name: string, cidr: string, blockSize: number): CandidatePool {
  return { name, cidr: parseCIDR(cidr), family: cidr.includes(":") ? 6 : 4, blockSize };
}

describe("fnv1()", () => {
  it("gives the published values", () => {
    // draft-eastlake-fnv, test vectors of FNV-1 32.
    expect([fnv1(""), fnv1("a"), fnv1("foobar")]).toEqual([0x811c9dc5, 0x050c5d7e, 0x31f0b262]);
  });
});

describe("blockCandidates()", () => {
  it("visits every block of the pool once, whoever asks", () => {
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 0, max: 6 }), fc.boolean(), (node, bits, isV6) => {
        const p = isV6 ? pool("p", "fd00:1::/116", 116 + bits) : pool("p", "10.9.0.0/20", 20 + bits);
        const blocks = [...blockCandidates(p, node)];
        expect(new Set(blocks.map(formatCIDR)).size).toBe(2 ** bits);
        for (const block of blocks) {
          expect(block.prefixLength).toBe(p.blockSize);
          expect(cidrCovers(p.cidr, block)).toBe(true);
        }
      }),
    );
  });

  it("steps over what is not wanted, however large, and still visits all the rest once", () => {
    const wide = pool("p", "fd00::/48", 122);
    const passed = parseCIDR("fd00::/48");
    expect([...blockCandidates(wide, "node-a", () => passed)]).toEqual([]);
    const half = parseCIDR("fd00:0:0:8000::/49");
    const rest = blockCandidates(wide, "node-a", (c) => (cidrCovers(half, c) ? half : undefined));
    expect(cidrCovers(half, rest.next().value ?? half)).toBe(false);
    const small = pool("p", "10.9.0.0/20", 26);
    fc.assert(
      fc.property(fc.string(), fc.integer({ min: 0, max: 63 }), fc.integer({ min: 20, max: 26 }), (node, n, length) => {
        const out = blockOf(ipAt(small.cidr, n * 64), length);
        const left = [...blockCandidates(small, node, (c) => (cidrCovers(out, c) ? out : undefined))];
        expect(new Set(left.map(formatCIDR)).size).toBe(64 - 2 ** (26 - length));
        expect(left.some((c) => cidrCovers(out, c))).toBe(false);
      }),
    );
  });

  it("starts at the same block for the same node, at different ones for different nodes, in pools of any size", () => {
    const first = (p: CandidatePool, node: string): string => {
      for (const block of blockCandidates(p, node)) return formatCIDR(block);
      return "";
    };
    for (const p of [pool("p", "10.0.0.0/12", 26), pool("q", "fd00::/48", 122)]) {
      const starts = Array.from({ length: 50 }, (_, i) => first(p, `node-${i}`));
      expect(new Set(starts).size).toBeGreaterThan(45);
      expect(first(p, "node-7")).toBe(starts[7]);
    }
  });
});

describe("KnownBlocks", () => {
  it("agrees with a look at every pair", () => {
    const cidr = fc
      .tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 24, max: 32 }))
      .map(([n, length]) => parseCIDR(`10.0.0.${n}/${length}`));
    fc.assert(
      fc.property(fc.array(cidr, { maxLength: 8 }), cidr, (blocks, candidate) => {
        const found = new KnownBlocks(blocks).overlap(candidate);
        expect(found !== undefined).toBe(blocks.some((block) => cidrsOverlap(block, candidate)));
        if (found) expect(blocks.some((block) => formatCIDR(block) === formatCIDR(found))).toBe(true);
      }),
    );
  });

  it("keeps the families apart", () => {
    expect(new KnownBlocks([parseCIDR("::/0")]).overlap(parseCIDR("0.0.0.0/26"))).toBeUndefined();
  });
});

describe("coveringPool()", () => {
  it("gives addresses of two pools to the more specific one, and of two equal ones to the first by name", () => {
    const wide = pool("wide", "10.0.0.0/16", 26);
    const narrow = pool("narrow", "10.0.1.0/24", 28);
    const twin = pool("a-twin", "10.0.0.0/16", 26);
    const inside = parseCIDR("10.0.1.64/26");
    expect(coveringPool(inside, wide, [wide, narrow])?.name).toBe("narrow");
    expect(coveringPool(parseCIDR("10.0.1.64/28"), narrow, [wide, narrow])).toBeUndefined();
    expect(coveringPool(parseCIDR("10.0.2.0/26"), wide, [wide, narrow])).toBeUndefined();
    expect(coveringPool(parseCIDR("10.0.2.0/26"), wide, [wide, twin])?.name).toBe("a-twin");
    expect(coveringPool(parseCIDR("10.0.2.0/26"), twin, [wide, twin])).toBeUndefined();
  });
});

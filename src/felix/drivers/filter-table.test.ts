// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseCIDR } from "../../net/cidr.ts";
import { elementsOf } from "../nft/elements.ts";
import { NftError } from "../nft/errors.ts";
import { FakeNft } from "../nft/fake-nft.ts";
import { layoutOf } from "../nft/layout.ts";
import { type FilterSettings, VXLAN } from "../nft/settings.ts";
import { FilterTable } from "./filter-table.ts";

const SETTINGS: FilterSettings = { natOutgoing: true, natOutgoingExclusions: "IPPoolsOnly", randomFully: true };
const LAYOUT = layoutOf(SETTINGS, []);
const OTHER_LAYOUT = layoutOf(SETTINGS, [VXLAN[4]]);

function pools(...cidrs: readonly string[]) {
  return elementsOf({ natPools: [], allPools: cidrs.map(parseCIDR), nodes: [], allowedSources: [] });
}

function sorted(sets: ReadonlyMap<string, ReadonlySet<string>> | undefined) {
  return Object.fromEntries([...(sets ?? [])].map(([name, members]) => [name, [...members].toSorted()]));
}

describe("FilterTable", () => {
  test("makes the table, and from then on writes what differs", async () => {
    const nft = new FakeNft();
    const table = new FilterTable(nft);
    expect(await table.apply({ layout: LAYOUT, elements: pools("10.0.0.0/16") })).toMatchObject({ wrote: "table" });
    expect(await table.apply({ layout: LAYOUT, elements: pools("10.0.0.0/16") })).toMatchObject({ wrote: "nothing" });
    const report = await table.apply({ layout: LAYOUT, elements: pools("10.0.0.0/8", "fd00::/64") });
    expect(report).toEqual({ wrote: "elements", repaired: [], counters: undefined });
    expect(nft.scripts.slice(1)).toEqual([
      "delete element inet gingham all-pools-v4 { 10.0.0.0/16 }\n" +
        "add element inet gingham all-pools-v4 { 10.0.0.0/8 }\n" +
        "add element inet gingham all-pools-v6 { fd00::/64 }\n",
    ]);
    // Only the first time: what it wrote it knows.
    expect(nft.listings).toBe(1);
  });

  test("a fresh one adopts a table that is right", async () => {
    const nft = new FakeNft();
    await new FilterTable(nft).apply({ layout: LAYOUT, elements: pools("10.0.0.0/16", "fd00::1/128") });
    nft.counters.set("unknown-source", 5);
    const report = await new FilterTable(nft).apply({ layout: LAYOUT, elements: pools("10.0.0.0/16", "fd00::1/128") });
    expect(report).toEqual({ wrote: "nothing", repaired: [], counters: new Map(nft.counters) });
    expect(nft.scripts).toHaveLength(1);
  });

  test("without elements it makes a table where there is none, and leaves one that is there", async () => {
    const nft = new FakeNft();
    expect(await new FilterTable(nft).apply({ layout: LAYOUT, elements: undefined })).toMatchObject({ wrote: "table" });
    const table = new FilterTable(nft);
    await table.apply({ layout: LAYOUT, elements: pools("10.0.0.0/16") });
    const next = new FilterTable(nft);
    expect(await next.apply({ layout: OTHER_LAYOUT, elements: undefined })).toMatchObject({ wrote: "nothing" });
    expect(sorted(nft.sets)["all-pools-v4"]).toEqual(["10.0.0.0/16"]);
    expect(await next.apply({ layout: OTHER_LAYOUT, elements: pools() })).toMatchObject({ wrote: "table" });
    expect(nft.has(OTHER_LAYOUT)).toBe(true);
  });

  test("what others did between is found by the failure, restored, and told once", async () => {
    const nft = new FakeNft();
    const table = new FilterTable(nft);
    await table.apply({ layout: LAYOUT, elements: pools("10.0.0.0/16") });
    nft.sets?.get("all-pools-v4")?.clear();
    const elements = pools("10.1.0.0/16");
    await expect(table.apply({ layout: LAYOUT, elements })).rejects.toThrow("element does not exist");
    const repaired = ["element 10.0.0.0/16 of set all-pools-v4 missing"];
    expect(await table.apply({ layout: LAYOUT, elements })).toMatchObject({ wrote: "elements", repaired });
    expect(await table.apply({ layout: LAYOUT, elements })).toMatchObject({ wrote: "nothing", repaired: [] });
    expect(sorted(nft.sets)["all-pools-v4"]).toEqual(["10.1.0.0/16"]);
  });

  test("a table that is certainly damaged is written anew without being read, and it is told what was", async () => {
    const nft = new FakeNft();
    const table = new FilterTable(nft);
    const desired = { layout: LAYOUT, elements: pools("10.0.0.0/16") };
    await table.apply(desired);
    const { listings } = nft;
    nft.deleteRule();
    table.requestResync(["rule of chain postrouting missing"]);
    expect(await table.apply(desired)).toEqual({
      wrote: "table",
      repaired: ["rule of chain postrouting missing"],
      counters: undefined,
    });
    expect(nft.has(LAYOUT)).toBe(true);
    expect(nft.listings).toBe(listings);
    expect(await table.apply(desired)).toMatchObject({ wrote: "nothing", repaired: [] });
  });

  test("damage to a former agent's table, whose elements nobody else knows, is looked at", async () => {
    const nft = new FakeNft();
    await new FilterTable(nft).apply({ layout: LAYOUT, elements: pools("10.0.0.0/16") });
    const table = new FilterTable(nft);
    await table.apply({ layout: LAYOUT, elements: undefined });
    nft.deleteRule();
    table.requestResync(["rule of chain postrouting missing"]);
    expect(await table.apply({ layout: LAYOUT, elements: undefined })).toMatchObject({ wrote: "nothing" });
    expect(sorted(nft.sets)["all-pools-v4"]).toEqual(["10.0.0.0/16"]);
  });

  test("a repair that is refused at first is told when it is done", async () => {
    const nft = new FakeNft();
    const table = new FilterTable(nft);
    const desired = { layout: LAYOUT, elements: pools("10.0.0.0/16") };
    await table.apply(desired);
    nft.deleteTable();
    table.requestResync();
    nft.refuse = (call) => (call === "apply" ? new NftError("no") : undefined);
    await expect(table.apply(desired)).rejects.toThrow("no");
    nft.refuse = undefined;
    expect(await table.apply(desired)).toMatchObject({ wrote: "table", repaired: ["table missing"] });
  });

  test("whatever was wished, refused and done by others in any order, the kernel ends as the last wish", async () => {
    const wish = fc.record({
      kind: fc.constant("wish"),
      isOther: fc.boolean(),
      cidrs: fc.array(
        fc.constantFrom("10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/24", "fd00::/64", "fd00::/48", "1.2.3.4/32"),
      ),
    });
    const others = fc.record({
      kind: fc.constantFrom("deleteTable", "deleteRule", "flushSet", "addElement", "refuse", "tell"),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(wish, others), { maxLength: 12 }), wish, async (steps, last) => {
        const nft = new FakeNft();
        const table = new FilterTable(nft);
        let isRefused = false;
        nft.refuse = (call) => (isRefused && call === "apply" ? new NftError("no") : undefined);
        const apply = async (step: typeof last): Promise<void> => {
          const layout = step.isOther ? OTHER_LAYOUT : LAYOUT;
          await table.apply({ layout, elements: pools(...step.cidrs) }).catch(() => {});
          isRefused = false;
        };
        for (const step of steps) {
          if ("cidrs" in step) await apply(step);
          else if (step.kind === "deleteTable") nft.deleteTable();
          else if (step.kind === "deleteRule") nft.deleteRule();
          else if (step.kind === "flushSet") nft.sets?.get("all-pools-v4")?.clear();
          else if (step.kind === "addElement") nft.sets?.get("nodes-v4")?.add("10.9.9.9/32");
          else if (step.kind === "tell") table.requestResync(["table missing"]);
          else isRefused = true;
        }
        isRefused = false;
        table.requestResync();
        await apply(last);
        expect(sorted(nft.sets)).toEqual(sorted(pools(...last.cidrs)));
        expect(nft.has(last.isOther ? OTHER_LAYOUT : LAYOUT)).toBe(true);
        const written = nft.scripts.length;
        table.requestResync();
        await apply(last);
        expect(nft.scripts).toHaveLength(written);
      }),
    );
  });
});

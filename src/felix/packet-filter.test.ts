// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { FakeClock } from "../lib/fake-clock.ts";
import { parseCIDR } from "../net/cidr.ts";
import { FakeLog, fakeEndpoint, fakeNode, fakePool } from "./fake-resources.ts";
import { NftError } from "./nft/errors.ts";
import { FakeNft } from "./nft/fake-nft.ts";
import type { PacketFilterMetrics } from "./nft/ports.ts";
import type { FilterSettings } from "./nft/settings.ts";
import { PacketFilter } from "./packet-filter.ts";

const SETTINGS: FilterSettings = { natOutgoing: true, natOutgoingExclusions: "IPPoolsOnly", randomFully: true };

function setUp(settings: Partial<FilterSettings> = {}) {
  const clock = new FakeClock();
  const nft = new FakeNft();
  const log = new FakeLog();
  const counted = { turns: 0, failures: 0, repaired: 0, dropped: 0 };
  const metrics: PacketFilterMetrics = {
    filterTurn: (ok) => {
      counted.turns++;
      if (!ok) counted.failures++;
    },
    filterRepaired: (count) => {
      counted.repaired += count;
    },
    filterDropped: (_, packets) => {
      counted.dropped += packets;
    },
  };
  const filter = new PacketFilter({
    port: nft,
    settings: { ...SETTINGS, ...settings },
    clock,
    random: () => 0,
    log,
    metrics,
  });
  filter.state.setPool(fakePool("four", "10.0.0.0/16", { natOutgoing: true }));
  return { clock, nft, log, counted, filter };
}

describe("PacketFilter", () => {
  test("keeps a former agent's sets until all is known; readiness follows", async () => {
    const former = setUp();
    former.filter.start();
    former.filter.markSynced();
    await former.clock.advance(10);
    expect(former.filter.readiness).toEqual({ ok: true, detail: "programmed" });
    await former.filter.stop();
    expect(former.nft.sets?.get("nat-pools-v4")).toEqual(new Set(["10.0.0.0/16"]));

    const { nft } = former;
    const clock = new FakeClock();
    const { filter: _, ...rest } = setUp();
    const filter = new PacketFilter({
      port: nft,
      settings: SETTINGS,
      clock,
      random: () => 0,
      log: rest.log,
      metrics: { filterTurn: () => {}, filterRepaired: () => {}, filterDropped: () => {} },
    });
    filter.start();
    await clock.advance(100);
    expect(nft.sets?.get("nat-pools-v4")).toEqual(new Set(["10.0.0.0/16"]));
    expect(filter.readiness).toEqual({ ok: false, detail: "not programmed yet" });
    filter.state.setPool(fakePool("other", "10.7.0.0/16", { natOutgoing: true }));
    filter.markSynced();
    await clock.advance(10);
    expect(nft.sets?.get("nat-pools-v4")).toEqual(new Set(["10.7.0.0/16"]));
    expect(filter.readiness.ok).toBe(true);
    await filter.stop();
  });

  test("endpoints without allowed prefixes neither wake it nor write anything", async () => {
    const { clock, nft, filter } = setUp();
    filter.start();
    filter.markSynced();
    await clock.advance(10);
    const { listings, scripts } = nft;
    const before = [listings, scripts.length];
    for (let i = 0; i < 100; i++) {
      filter.state.setEndpoint(fakeEndpoint(String(i), i + 10, "10.0.0.5"));
      filter.wake();
      filter.state.deleteEndpoint(String(i));
      filter.wake();
    }
    await clock.advance(1000);
    expect([nft.listings, nft.scripts.length]).toEqual(before);
    filter.state.setEndpoint({ ...fakeEndpoint("1", 7), allowedSourcePrefixes: ["10.9.0.0/24"] });
    filter.wake();
    await clock.advance(10);
    expect(nft.scripts.at(-1)).toBe('add element inet gingham allowed-sources-v4 { "cali1" . 10.9.0.0/24 }\n');
    await filter.stop();
  });

  test("looks each minute, restores what others changed, and says so once in a while", async () => {
    const { clock, nft, log, counted, filter } = setUp();
    filter.start();
    filter.markSynced();
    await clock.advance(10);
    expect(nft.listings).toBe(1);
    for (let minute = 0; minute < 3; minute++) {
      nft.deleteRule();
      await clock.advance(60_000);
    }
    expect(nft.listings).toBe(4);
    expect(counted).toMatchObject({ repaired: 3, failures: 0 });
    expect(log.said("warn")).toHaveLength(3);
    expect(log.lines.find(({ level }) => level === "warn")?.fields).toEqual({
      changes: ["rule 2 of chain postrouting missing"],
      count: 1,
    });
    expect(filter.events().repairs).toMatchObject({
      total: 3,
      recent: [{ what: "table inet gingham, rule 2 of chain postrouting missing", times: 3 }],
    });
    await filter.stop();
    expect(nft.sets).toBeDefined();
  });

  test("what others change comes back when the kernel tells of it, spaced and told once in a while", async () => {
    const { clock, nft, log, counted, filter } = setUp();
    filter.start();
    filter.markSynced();
    await clock.advance(10_000);
    const { listings } = nft;
    for (let i = 0; i < 300; i++) {
      nft.deleteTable();
      nft.notify();
      await clock.advance(10);
    }
    await clock.advance(250);
    expect(nft.sets).toBeDefined();
    // 10 at once, and 3.25 s in steps of 200 ms.
    expect(nft.listings - listings).toBeLessThanOrEqual(28);
    expect(nft.listings - listings).toBeGreaterThanOrEqual(24);
    expect(counted.repaired).toBe(nft.listings - listings);
    expect(log.said("warn")).toHaveLength(1);
    await clock.advance(10_000);
    expect(log.lines.filter(({ level }) => level === "warn").map(({ fields }) => fields)).toEqual([
      { changes: ["table missing"], count: 1 },
      {
        changes: [...new Array<string>(5).fill("table missing"), `and ${counted.repaired - 6} more`],
        count: counted.repaired - 1,
      },
    ]);
    await filter.stop();
    nft.deleteTable();
    nft.notify();
    await clock.advance(1000);
    expect(nft.sets).toBeUndefined();
  });

  test("what is certainly damaged is written without a look; what may be the echo of that is looked at", async () => {
    const { clock, nft, counted, filter } = setUp();
    filter.start();
    filter.markSynced();
    await clock.advance(10_000);
    const { listings } = nft;
    nft.deleteRule();
    nft.notify("rule of chain postrouting missing");
    await clock.advance(10);
    expect(nft.scripts).toHaveLength(2);
    expect(nft.listings).toBe(listings);
    expect(counted.repaired).toBe(1);
    expect(filter.events().repairs.recent).toMatchObject([
      { what: "table inet gingham, rule of chain postrouting missing" },
    ]);
    // Where a process ID is another in nft's eyes, its own write looks like this.
    nft.notify("table missing");
    await clock.advance(1500);
    expect(nft.listings).toBe(listings + 1);
    expect(nft.scripts).toHaveLength(2);
    expect(counted.repaired).toBe(1);
    nft.deleteTable();
    nft.notify("table missing");
    await clock.advance(10);
    expect(nft.sets).toBeDefined();
    expect(nft.listings).toBe(listings + 1);
    await filter.stop();
  });

  test("damage that a write has repaired while it was being told is not repaired again", async () => {
    const { clock, nft, counted, filter } = setUp();
    filter.start();
    filter.markSynced();
    await clock.advance(10_000);
    nft.deleteRule();
    let isTold = false;
    nft.refuse = (call) => {
      if (call === "apply" && !isTold) {
        isTold = true;
        nft.notify("rule of chain postrouting missing");
      }
      return undefined;
    };
    nft.notify();
    await clock.advance(2000);
    expect(isTold).toBe(true);
    expect(nft.scripts).toHaveLength(2);
    expect(counted.repaired).toBe(1);
    await filter.stop();
  });

  test("a reason why nothing goes is in readiness, findings and log, until it goes", async () => {
    const { clock, nft, log, counted, filter } = setUp();
    nft.refuse = () => new NftError("Cannot run nft: install the package nftables");
    filter.start();
    await filter.firstTry;
    filter.markSynced();
    await clock.advance(5000);
    expect(filter.readiness).toEqual({
      ok: false,
      detail: "not programmed yet; the last try failed: Cannot run nft: install the package nftables",
    });
    expect(filter.findings()).toEqual([
      {
        code: "PacketFilterOff",
        subject: "inet gingham",
        message:
          "Cannot keep the table inet gingham: Cannot run nft: install the package nftables; pods can send from any address, and nothing is masqueraded",
      },
    ]);
    expect(log.said("error")).toEqual(["cannot program the packet filter; will retry"]);
    expect(counted.failures).toBeGreaterThan(2);
    nft.refuse = undefined;
    await clock.advance(10_000);
    expect(filter.readiness.ok).toBe(true);
    expect(filter.findings()).toEqual([]);
    await filter.stop();
  });

  test("a table that cannot be kept for half a minute makes it not ready", async () => {
    const { clock, nft, filter } = setUp();
    filter.start();
    filter.markSynced();
    await clock.advance(10);
    nft.refuse = () => new NftError("EPERM");
    nft.notify();
    await clock.advance(20_000);
    expect(filter.readiness).toMatchObject({ ok: true });
    await clock.advance(20_000);
    expect(filter.readiness.ok).toBe(false);
    expect(filter.readiness.detail).toMatch(/^failing for \d\d\.\d s: EPERM$/);
    nft.refuse = undefined;
    await clock.advance(15_000);
    expect(filter.readiness).toEqual({ ok: true, detail: "programmed" });
    await filter.stop();
  });

  test("a kernel that refuses fully-random gets rules without it; another refusal does not change them", async () => {
    const { clock, nft, log, filter } = setUp();
    let isBroken = true;
    nft.refuse = (call, script) =>
      call !== "list" && (isBroken || script.includes("fully-random")) ? new NftError("not supported") : undefined;
    filter.start();
    filter.markSynced();
    await clock.advance(1000);
    expect(filter.readiness.ok).toBe(false);
    expect(log.said("warn")).toEqual([]);
    isBroken = false;
    await clock.advance(20_000);
    expect(filter.readiness.ok).toBe(true);
    expect(nft.scripts).toHaveLength(1);
    expect(nft.scripts[0]).toContain("masquerade comment");
    expect(log.said("warn")).toEqual(["this kernel refuses fully-random masquerading; ports are chosen in order"]);
    await filter.stop();
  });

  test("takes other settings while it runs, and remembers what the kernel refuses", async () => {
    const { clock, nft, filter } = setUp();
    nft.refuse = (call, script) =>
      call !== "list" && script.includes("fully-random") ? new NftError("not supported") : undefined;
    filter.start();
    filter.markSynced();
    await clock.advance(10);
    filter.configure({ ...SETTINGS, natPortRange: { min: 40_000, max: 50_000 } }, 1000);
    await clock.advance(10);
    expect(nft.scripts.at(-1)).toContain("masquerade to :40000-50000");
    expect(nft.scripts.at(-1)).not.toContain("fully-random");
    const { listings } = nft;
    await clock.advance(3000);
    expect(nft.listings).toBe(listings + 3);
    await filter.stop();
  });

  test("nodes are in a set only while a rule asks for them", async () => {
    const { clock, nft, filter } = setUp();
    filter.state.setNode(fakeNode("n", ["192.0.2.1"]));
    filter.start();
    filter.markSynced();
    await clock.advance(10);
    expect(nft.sets?.get("nodes-v4")).toEqual(new Set());
    filter.state.setPool(fakePool("four", "10.0.0.0/16", { vxlanMode: "Always" }));
    filter.wake();
    await clock.advance(10);
    expect(nft.sets?.get("nodes-v4")).toEqual(new Set(["192.0.2.1/32"]));
    const externalNodes = [parseCIDR("192.0.2.0/25"), parseCIDR("2001:db8::9/128")];
    filter.configure({ ...SETTINGS, externalNodes }, 60_000);
    await clock.advance(10);
    // The node's own address is inside.
    expect(nft.sets?.get("nodes-v4")).toEqual(new Set(["192.0.2.0/25"]));
    expect(nft.sets?.get("nodes-v6")).toEqual(new Set(["2001:db8::9/128"]));
    await filter.stop();
  });

  test("drops are counted once, also when the kernel's counters begin anew", async () => {
    const { clock, nft, counted, filter } = setUp();
    filter.start();
    filter.markSynced();
    await clock.advance(10);
    nft.counters.set("unknown-source", 5);
    await clock.advance(60_000);
    await clock.advance(60_000);
    expect(counted.dropped).toBe(5);
    nft.deleteTable();
    await clock.advance(60_000);
    nft.counters.set("unknown-source", 2);
    await clock.advance(60_000);
    expect(counted.dropped).toBe(7);
    await filter.stop();
  });
});

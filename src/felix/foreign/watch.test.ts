// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { FakeLog, fakePool } from "../fake-resources.ts";
import { ownNeeds } from "./judge.ts";
import type { ForeignFacts, OwnNeeds } from "./ports.ts";
import { ForeignWatch } from "./watch.ts";

const FACTS: ForeignFacts = {
  programs: new Set(),
  files: { networkManager: [], networkd: [], firewalldTrusted: [], firewalldPolicies: [], ufw: [], sysctl: [] },
  forwardChains: [],
  inputChains: [],
  legacyCalico: [],
  chains: [],
  links: [],
  routes: [],
  reversePath: new Map(),
  forwarding: { 4: true, 6: true },
};

test("ForeignWatch looks when pools are known, then every five minutes, sooner while it found something, and goes on after a failure", async () => {
  const clock = new FakeClock();
  const world = { programs: ["NetworkManager"], needs: undefined as OwnNeeds | undefined, isBroken: false, reads: 0 };
  const watch = new ForeignWatch({
    port: {
      read: async () => {
        world.reads++;
        if (world.isBroken) throw new Error("no");
        return { ...FACTS, programs: new Set(world.programs) };
      },
    },
    needs: () => world.needs,
    clock,
    random: () => 0,
    log: new FakeLog(),
  });
  watch.start();
  await clock.advance(20_000);
  expect(world.reads).toBe(0);
  world.needs = ownNeeds([fakePool("p", "10.0.0.0/16")], 4789);
  await clock.advance(5000);
  expect(watch.findings().map(({ code }) => code)).toEqual(["NetworkManagerManages"]);
  world.isBroken = true;
  await clock.advance(300_000);
  expect(watch.findings()).toHaveLength(1);
  world.isBroken = false;
  world.programs = [];
  // Whoever mends it looks at `gingham node status` next.
  await clock.advance(30_000);
  expect(watch.findings()).toEqual([]);
  const { reads } = world;
  await clock.advance(260_000);
  expect(world.reads).toBe(reads);
  await clock.advance(40_000);
  expect(world.reads).toBe(reads + 1);
  await watch.stop();
});

test("ownNeeds() says which CIDRs and families there are, and leaves out what cannot be read", () => {
  expect(ownNeeds([], 4789)).toBeUndefined();
  expect(ownNeeds([fakePool("bad", "x")], 4789)).toBeUndefined();
  expect(ownNeeds([fakePool("bad", "x"), fakePool("six", "fd00::/64")], 4789)).toEqual({
    pools: ["fd00::/64"],
    families: [6],
  });
  const mixed = [fakePool("four", "10.0.0.0/16", { vxlanMode: "CrossSubnet" }), fakePool("six", "fd00::/64")];
  expect(ownNeeds(mixed, 8472)).toMatchObject({ families: [4, 6], vxlan: { port: 8472, families: [4] } });
});

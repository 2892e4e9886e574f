// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { embeddedServer, namedServers, type TestServer } from "./support/api-servers.ts";
import { nodeOf, Traffic } from "./support/ipam-traffic.ts";

/** Assignments, releases and claims of both writers together. More for a longer look. */
const OPERATIONS = Number(process.env["GINGHAM_TEST_OPERATIONS"] ?? 4000);

describe.each([embeddedServer({ hasDisk: false }), ...namedServers()])("on $name", ({ start }) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await start();
  });
  afterAll(() => server.stop());

  it("Gingham and a writer that only knows the data model share a pool, and nothing is ever wrong", async () => {
    const traffic = await Traffic.start({ server, operations: OPERATIONS, random: Math.random });
    const releaseAll = await traffic.run();
    await releaseAll();
    await traffic.releaseBlocks();
    expect(traffic.faults).toEqual([]);
    expect(await traffic.leftovers()).toEqual([]);
    const history = await traffic.history();
    expect(history.findings()).toEqual([]);
    await traffic.close();
    const rarities = history.rarities();
    process.stderr.write(`${history.length} versions: ${JSON.stringify({ ...traffic.seen, ...rarities })}\n`);
    // Otherwise the test has become too easy: it needs conflicts, borrowing, claims, unclaims and blocks that are taken.
    for (const [what, count] of Object.entries(traffic.seen)) expect(count, what).toBeGreaterThan(0);
    for (const node of [nodeOf("naive"), nodeOf("gingham")]) expect(rarities.borrowed[node]).toBeGreaterThan(0);
    expect(Object.values(rarities.tookOver).length).toBeGreaterThan(0);
  }, 600_000);
});

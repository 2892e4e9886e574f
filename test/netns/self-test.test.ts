// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readlinkSync } from "node:fs";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { TestPair } from "../../src/felix/self-test/ports.ts";
import { parseIP } from "../../src/net/ip.ts";
import type { Kernel } from "../../src/netlink/kernel.ts";
import { createKernel } from "../../src/netlink/worker.ts";
import { enterHost, type Netns, rows, sh } from "./netlink-fixture.ts";

const PAIRS: readonly TestPair[] = [
  [parseIP("10.77.0.2"), parseIP("10.77.0.3")],
  [parseIP("fd00:77::2"), parseIP("fd00:77::3")],
];

let host: Netns;
let kernel: Kernel;

beforeAll(async () => {
  host = enterHost("self-host");
  kernel = await createKernel({
    onFatal: (error) => {
      throw error;
    },
  });
});

afterEach(() => {
  sh("nft", "flush ruleset");
});

afterAll(async () => {
  await kernel.close();
  host[Symbol.dispose]();
});

/** Network namespaces that this process holds a descriptor of. */
function openNamespaces(): readonly string[] {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "closed since";
    }
  });
  return links.filter((link) => link.startsWith("net:["));
}

function nft(script: string): void {
  sh("nft", script);
}

test("a packet comes back in both families, and nothing is left", async () => {
  const before = [rows("ip", "link"), rows("ip", "route"), rows("ip", "-6 route")];
  const namespaces = openNamespaces();
  for (const pair of PAIRS) await kernel.selfTest.exchange(pair);
  // At once, too: the names of the links are the same.
  await Promise.all(PAIRS.map((pair) => kernel.selfTest.exchange(pair)));
  expect([rows("ip", "link"), rows("ip", "route"), rows("ip", "-6 route")]).toEqual(before);
  expect(openNamespaces()).toEqual(namespaces);
});

test.each([
  ["dropped on the way there", "udp dport 7 ip daddr 10.77.0.3 drop", "did not arrive within 2 s"],
  ["dropped on the way back", "ip daddr 10.77.0.2 drop", "arrived, and its answer did not come back within 2 s"],
  ["refused", "iifname cali* reject with icmpx admin-prohibited", "was refused with EHOSTUNREACH"],
])("a packet that is %s is told as such, and nothing is left", async (_, rule, told) => {
  const before = rows("ip", "link");
  nft(`table inet strange { chain f { type filter hook forward priority 0; ${rule}; }; }`);
  await expect(kernel.selfTest.exchange(PAIRS[0] as TestPair)).rejects.toMatchObject({
    code: "SelfTest",
    message: `a packet from 10.77.0.2 to 10.77.0.3 on this node ${told}`,
  });
  expect(rows("ip", "link")).toEqual(before);
});

test("what is wrong in one family does not matter to the other", async () => {
  nft("table inet strange { chain f { type filter hook forward priority 0; meta nfproto ipv4 drop; }; }");
  await kernel.selfTest.exchange(PAIRS[1] as TestPair);
});

// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { measurePath } from "../../src/felix/path-mtu/search.ts";
import { familyOf, parseIP } from "../../src/net/ip.ts";
import type { Kernel } from "../../src/netlink/kernel.ts";
import { createKernel } from "../../src/netlink/worker.ts";
import { enterHost, ip, Netns, sh } from "./netlink-fixture.ts";

/** This node, a router, and a node behind it: links of 1500 bytes, but one between the two in the middle of 1400. */

const FAR = ["198.51.100.2", "2001:db8:1::2"] as const;
let host: Netns;
let router: Netns;
let far: Netns;
let kernel: Kernel;

beforeAll(async () => {
  host = enterHost("path-host");
  router = new Netns("path-router");
  far = new Netns("path-far");
  ip(`link set up1 netns ${router.name}`);
  router.run(() => {
    ip("link set up1 up");
    ip("addr add 192.0.2.254/24 dev up1");
    ip("addr add 2001:db8::fe/64 dev up1 nodad");
    ip(`link add down0 type veth peer name eth0 netns ${far.name}`);
    ip("link set down0 mtu 1400 up");
    ip("addr add 198.51.100.1/24 dev down0");
    ip("addr add 2001:db8:1::1/64 dev down0 nodad");
    for (const family of ["ipv4", "ipv6"]) sh("sh", "-c", `echo 1 > /proc/sys/net/${family}/conf/all/forwarding`);
  });
  far.run(() => {
    ip("link set eth0 mtu 1400 up");
    ip("addr add 198.51.100.2/24 dev eth0");
    ip("addr add 2001:db8:1::2/64 dev eth0 nodad");
    ip("route add default via 198.51.100.1");
    ip("-6 route add default via 2001:db8:1::1");
  });
  kernel = await createKernel({
    onFatal: (error) => {
      throw error;
    },
  });
});

afterAll(async () => {
  await kernel.close();
  for (const netns of [far, router, host]) netns[Symbol.dispose]();
});

test.each(FAR)(
  "a path to %s that carries 1400 bytes is told as such, whatever the kernel knows of it",
  async (address) => {
    const to = parseIP(address);
    // An IPv6 address is looked for twice before it is anybody's.
    await vi.waitUntil(() => kernel.echo.echo(to, 1280), { timeout: 20_000 });
    for (let again = 0; again < 2; again++) {
      const path = await measurePath((bytes) => kernel.echo.echo(to, bytes), familyOf(to), 1500);
      expect(path).toEqual({ kind: "narrow", bytes: 1400 });
    }
    expect(await measurePath((bytes) => kernel.echo.echo(to, bytes), familyOf(to), 1400)).toEqual({ kind: "wide" });
  },
  120_000,
);

test("a neighbour's is as wide as the link, and no wider", async () => {
  const to = parseIP("192.0.2.254");
  expect(await measurePath((bytes) => kernel.echo.echo(to, bytes), 4, 1500)).toEqual({ kind: "wide" });
  expect(await measurePath((bytes) => kernel.echo.echo(to, bytes), 4, 1600)).toEqual({ kind: "narrow", bytes: 1500 });
  expect(await kernel.echo.echo(parseIP("192.0.2.77"), 100)).toBe(false);
});

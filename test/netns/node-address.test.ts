// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fakeNode } from "../../src/felix/fake-resources.ts";
import { NodeAddressDetector } from "../../src/felix/node-address/detector.ts";
import { parseMethod } from "../../src/felix/node-address/settings.ts";
import { FakeClock } from "../../src/lib/fake-clock.ts";
import { formatIP, parseIP } from "../../src/net/ip.ts";
import { openRouteNamespace, type RouteNamespace } from "./route-namespace.ts";

const REACH = join(import.meta.dirname, "../../src/felix/node-address/reach.ts");

describe("this node's addresses on the kernel", () => {
  let namespace: RouteNamespace;

  beforeEach(async () => {
    namespace = openRouteNamespace();
    await namespace.addLink("eth0", ["192.0.2.1/24", "2001:db8::1/64"]);
    await namespace.addLink("eth1", ["198.51.100.1/24"]);
    namespace.ip("route", "add", "default", "via", "192.0.2.254");
    namespace.ip("route", "add", "203.0.113.0/24", "via", "198.51.100.254");
  });
  afterEach(() => namespace.close());

  /** Asks as the agent does, by a process of the namespace. */
  function sourceTowards(host: string, family: 4 | 6): string {
    const script = `import { udpReach } from ${JSON.stringify(REACH)}; console.log(String(await udpReach.sourceTowards(${JSON.stringify(host)}, ${family})))`;
    const argv = ["netns", "exec", namespace.name, process.execPath, "--input-type=module", "-e", script];
    return execFileSync("ip", argv, { encoding: "utf8" }).trim();
  }

  async function detect(method: string, family: 4 | 6): Promise<string | undefined> {
    const setting = { kind: "detect", method: parseMethod(method, family) ?? { kind: "first-found" } } as const;
    const detector = new NodeAddressDetector({
      settings: { 4: setting, 6: setting },
      clock: new FakeClock(),
      reach: { sourceTowards: async () => undefined },
    });
    detector.onNode(fakeNode("n", []));
    detector.onLinks(await namespace.dataplane.listLinks(), await namespace.dataplane.listAddrs());
    const found = (await detector.detect())[family];
    return typeof found === "object" ? `${formatIP(found.ip)}/${found.prefixLength}` : found;
  }

  test("a UDP socket tells the source towards a host, by the route that leads there", () => {
    expect(sourceTowards("203.0.113.9", 4)).toBe(String(parseIP("198.51.100.1")));
    expect(sourceTowards("8.8.8.8", 4)).toBe(String(parseIP("192.0.2.1")));
    expect(sourceTowards("2001:db8::9", 6)).toBe(String(parseIP("2001:db8::1")));
    expect(sourceTowards("2001:db9::9", 6)).toBe("undefined");
    expect(sourceTowards("no-such-host.invalid", 4)).toBe("undefined");
  });

  test("secondary, deprecated and tentative addresses are told apart from those that last", async () => {
    namespace.ip("addr", "add", "192.0.2.7/24", "dev", "eth0");
    namespace.ip("addr", "add", "2001:db8::7/64", "dev", "eth0", "preferred_lft", "0", "nodad");
    const addrs = await namespace.dataplane.listAddrs();
    const marks = addrs
      .filter(({ isSecondary, isTransient }) => isSecondary === true || isTransient === true)
      .map(({ ip }) => formatIP(ip))
      .filter((text) => !text.startsWith("fe80"));
    expect(marks.toSorted()).toEqual(["192.0.2.7", "2001:db8::7"]);
    expect(await detect("interface=eth0", 4)).toBe("192.0.2.1/24");
    expect(await detect("interface=eth0", 6)).toBe("2001:db8::1/64");
    expect(await detect("first-found", 4)).toBe("198.51.100.1/24");
    expect(await detect("interface=^eth", 4)).toBe("unknown");
  });
});

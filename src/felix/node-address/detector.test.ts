// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseIPWithPrefix } from "../../net/cidr.ts";
import { type Family, formatIP, type IP, parseIP } from "../../net/ip.ts";
import type { DetectedAddress } from "../calc/node-addresses.ts";
import { fakeNode } from "../fake-resources.ts";
import type { KernelLink } from "../ports.ts";
import { NodeAddressDetector } from "./detector.ts";
import { type AddressSettings, parseAddress, parseMethod } from "./settings.ts";

const ETH0: KernelLink = { ifIndex: 2, name: "eth0", up: true, mtuBytes: 1500 };
const ETH1: KernelLink = { ifIndex: 3, name: "eth1", up: true, mtuBytes: 1500 };

function settingsOf(ip: string, method = ""): AddressSettings {
  return { 4: parseAddress(ip, 4, parseMethod(method, 4)), 6: { kind: "node-object" } };
}

function setUp(settings: AddressSettings) {
  const clock = new FakeClock();
  const asked: string[] = [];
  const world = { source: undefined as IP | undefined };
  const detector = new NodeAddressDetector({
    settings,
    clock,
    reach: {
      sourceTowards: async (host, family) => {
        asked.push(`${host} ${family}`);
        return world.source;
      },
    },
  });
  /** Addresses by link. */
  const setHost = (eth0: readonly string[], eth1: readonly string[] = []): void =>
    detector.onLinks(
      [ETH0, ETH1],
      [...eth0.map((text) => ({ ifIndex: 2, text })), ...eth1.map((text) => ({ ifIndex: 3, text }))].map(
        ({ ifIndex, text }) => ({ ifIndex, ...parseIPWithPrefix(text) }),
      ),
    );
  const say = async (family: Family = 4): Promise<string> => sayOf((await detector.detect())[family]);
  return { clock, detector, asked, world, setHost, say };
}

function sayOf(detected: DetectedAddress | undefined): string {
  if (typeof detected !== "object") return detected ?? "as the Node says";
  return `${formatIP(detected.ip)}/${detected.prefixLength ?? "?"} ${detected.method}`;
}

describe("NodeAddressDetector", () => {
  test("says nothing before links and Node are known", async () => {
    const { detector, setHost, say } = setUp(settingsOf("autodetect"));
    expect(await say()).toBe("as the Node says");
    setHost(["192.0.2.1/24"]);
    expect(await say()).toBe("as the Node says");
    detector.onNode(fakeNode("n", []));
    expect(await say()).toBe("192.0.2.1/24 first-found");
    expect(detector.findings()).toEqual([]);
  });

  test.each([
    ["", "", "as the Node says"],
    ["none", "first-found", "none"],
    ["198.51.100.7", "first-found", "198.51.100.7/? explicit"],
    ["192.0.2.1", "", "192.0.2.1/24 explicit"],
    ["192.0.2.1/25", "", "192.0.2.1/25 explicit"],
  ])("IP=%j with method %j", async (ip, method, expected) => {
    const { detector, setHost, say } = setUp(settingsOf(ip, method));
    detector.onNode(fakeNode("n", []));
    setHost(["192.0.2.1/24"]);
    expect(await say()).toBe(expected);
    expect(await say(6)).toBe("as the Node says");
  });

  test("follows another answer only after it lasted for 10 s", async () => {
    const { clock, detector, setHost, say } = setUp(settingsOf("autodetect", "interface=eth0"));
    detector.onNode(fakeNode("n", []));
    setHost(["192.0.2.1/24"]);
    await say();
    setHost(["192.0.2.7/24"]);
    expect(await say()).toBe("192.0.2.1/24 interface");
    await clock.advance(9_000);
    setHost(["192.0.2.1/24"]);
    expect(await say()).toBe("192.0.2.1/24 interface");
    setHost(["192.0.2.7/24"]);
    await say();
    await clock.advance(9_999);
    expect(await say()).toBe("192.0.2.1/24 interface");
    expect(detector.dueMs).toBe(clock.nowMs() + 1);
    await clock.advance(1);
    expect(await say()).toBe("192.0.2.7/24 interface");
  });

  test("keeps its address while it finds none, and says so", async () => {
    const { clock, detector, setHost, say } = setUp(settingsOf("autodetect", "interface=eth0"));
    detector.onNode(fakeNode("n", []));
    setHost([]);
    expect(await say()).toBe("unknown");
    expect(detector.findings()).toMatchObject([{ code: "NodeAddressNotFound", subject: "IPv4 by interface=eth0" }]);
    setHost(["192.0.2.1/24"]);
    expect(await say()).toBe("192.0.2.1/24 interface");
    expect(detector.findings()).toEqual([]);
    setHost([]);
    await clock.advance(100_000);
    expect(await say()).toBe("192.0.2.1/24 interface");
    expect(detector.findings()[0]?.message).toContain("it stays 192.0.2.1");
  });

  test("refuses several, and names them and the way out", async () => {
    const { detector, setHost, say } = setUp(settingsOf("autodetect", "interface=eth"));
    detector.onNode(fakeNode("n", []));
    setHost(["192.0.2.1/24"], ["198.51.100.1/24"]);
    expect(await say()).toBe("unknown");
    const [finding] = detector.findings();
    expect(finding?.code).toBe("AmbiguousNodeAddress");
    expect(finding?.message).toContain("198.51.100.1 on eth1, 192.0.2.1 on eth0 all suit; the node has no address");
    expect(finding?.message).toContain("set IP to the address, or IP_AUTODETECTION_METHOD");
    detector.onNode(fakeNode("n", [], { "projectcalico.org/IPv4Address": "192.0.2.1/24" }));
    expect(await say()).toBe("192.0.2.1/24 interface");
    expect(detector.findings()).toEqual([]);
  });

  test("asks the kernel again after a minute or a change, and not otherwise", async () => {
    const { clock, detector, asked, world, setHost, say } = setUp(settingsOf("", "can-reach=203.0.113.1"));
    detector.onNode(fakeNode("n", []));
    setHost(["192.0.2.1/24"], ["198.51.100.1/24"]);
    world.source = parseIP("192.0.2.1");
    for (let i = 0; i < 3; i++) expect(await say()).toBe("192.0.2.1/24 can-reach");
    expect(asked).toEqual(["203.0.113.1 4"]);
    world.source = parseIP("198.51.100.1");
    await clock.advance(60_000);
    await say();
    await clock.advance(10_000);
    expect(await say()).toBe("198.51.100.1/24 can-reach");
    expect(asked).toHaveLength(3);
  });

  test("returns the same object while nothing changed", async () => {
    const { detector, setHost } = setUp(settingsOf("autodetect"));
    detector.onNode(fakeNode("n", []));
    setHost(["192.0.2.1/24"]);
    const first = await detector.detect();
    setHost(["192.0.2.1/24"]);
    expect(await detector.detect()).toBe(first);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fakeNode, fakePool } from "../../src/felix/fake-resources.ts";
import type { PacketFilter } from "../../src/felix/packet-filter.ts";
import { parseCIDR } from "../../src/net/cidr.ts";
import { parseIP } from "../../src/net/ip.ts";
import { NODE, PacketFilterWorld, WORLD } from "./packet-filter-world.ts";

const FAMILIES = [4, 6] as const;
const A = { 4: "10.0.0.5", 6: "fd00::5" } as const;
const B = { 4: "10.0.0.6", 6: "fd00::6" } as const;
const POOLS = [
  fakePool("four", "10.0.0.0/16", { natOutgoing: true }),
  fakePool("six", "fd00::/64", { natOutgoing: true }),
] as const;

let world: PacketFilterWorld;

beforeEach(() => {
  world = new PacketFilterWorld();
  for (const [name, pod] of [
    ["a", A],
    ["b", B],
  ] as const) {
    world.addPod(name, pod[4], pod[6]);
    world.routeTo(name, pod[4], pod[6]);
  }
});

afterEach(async () => {
  await world.close();
});

/** A filter that knows all, once its table is in the kernel. */
async function started(...args: Parameters<PacketFilterWorld["startFilter"]>): Promise<PacketFilter> {
  const filter = world.startFilter(...args);
  for (const pool of POOLS) filter.state.setPool(pool);
  filter.state.setNode(fakeNode("node-a", [NODE[4], NODE[6]]));
  filter.markSynced();
  await until(() => filter.readiness.ok);
  return filter;
}

describe("sources", () => {
  test.each(FAMILIES)("IPv%i: a pod speaks from its own address with everybody", async (family) => {
    await started();
    expect(world.ping("a", B[family])).toBe(true);
    expect(world.ping("a", NODE[family])).toBe(true);
    expect(world.ping("a", WORLD[family])).toBe(true);
    expect(world.ping("node", A[family])).toBe(true);
    expect(world.dropped()).toBe(0);
  });

  test.each(FAMILIES)("IPv%i: what a pod sends from any other address reaches nobody", async (family) => {
    // Without the table each of these arrives: the test would see it.
    const nobodys = { 4: "10.0.7.7", 6: "fd00::77" }[family];
    world.addAddress("a", nobodys);
    world.ping("a", WORLD[family], nobodys);
    expect(world.sourcesSeen()).toContain(nobodys);

    await started();
    for (const source of [
      nobodys,
      B[family],
      WORLD[family],
      NODE[family],
      { 4: "8.8.8.8", 6: "2001:db8:8::8" }[family],
    ]) {
      if (source !== nobodys) world.addAddress("a", source);
      const before = world.dropped();
      // The world's own address is the pod's now, so another pod is asked in its place.
      expect(world.ping("a", source === WORLD[family] ? B[family] : WORLD[family], source)).toBe(false);
      expect([source, world.dropped()]).toEqual([source, before + 1]);
      world.removeAddress("a", source);
    }
    expect(world.sourcesSeen()).toEqual([]);
    expect(world.ping("b", WORLD[family])).toBe(true);
  });

  test.each(FAMILIES)(
    "IPv%i: an unknown cali interface reaches nobody, until its host route is there",
    async (family) => {
      await started();
      const own = { 4: "10.0.0.9", 6: "fd00::9" }[family];
      world.addPod("s", own);
      const before = world.ruleset();
      for (const target of [A[family], NODE[family], WORLD[family]]) expect(world.ping("s", target, own)).toBe(false);
      expect(world.dropped()).toBe(3);
      world.routeTo("s", own);
      for (const target of [A[family], NODE[family], WORLD[family]]) expect(world.ping("s", target, own)).toBe(true);
      // No pod costs a write.
      expect(world.ruleset()).toBe(before);
    },
  );

  test("from a link-local address only neighbours are spoken with", async () => {
    await started();
    expect(world.ping("a", "fe80::ecee:eeff:feee:eeee%eth0")).toBe(false);
    expect(world.dropped()).toBe(1);
    // What the pod forgets of its gateway is found again by solicitation, and the reply to DAD's comes as well.
    world.ip("a", "neigh flush all");
    expect(world.ping("a", NODE[6])).toBe(true);
    world.ip("a", "addr add fd00::55/128 dev eth0");
    expect(world.dropped()).toBe(1);
  });

  test.each(FAMILIES)("IPv%i: allowed source prefixes are for their pod, and go with it", async (family) => {
    const filter = await started();
    const [prefix, inside] = { 4: ["172.16.0.0/16", "172.16.3.3"], 6: ["fd77::/32", "fd77::3"] }[family] as [
      string,
      string,
    ];
    for (const pod of ["a", "b"]) world.addAddress(pod, inside);
    const endpoint = { key: "1", hostIface: "calia", hostIfIndex: 5, ips: [parseIP(A[family])] };
    filter.state.setEndpoint({ ...endpoint, allowedSourcePrefixes: [prefix] });
    filter.wake();
    await until(() => world.scripts.length === 2);
    expect(world.scripts[1]).toMatch(/^add element inet gingham allowed-sources-v. \{ "calia" \. \S+ \}\n$/);
    // Outside of all pools, so it is not masqueraded, and the world does not know the way back.
    const isSeen = (): boolean => {
      world.ping("a", WORLD[family], inside);
      return world.sourcesSeen().includes(inside);
    };
    await until(isSeen);
    const before = world.dropped();
    world.ping("b", WORLD[family], inside);
    expect(world.sourcesSeen()).toEqual([]);
    filter.state.deleteEndpoint("1");
    filter.wake();
    await until(() => world.scripts.length === 3);
    await until(() => !isSeen());
    expect(world.dropped()).toBeGreaterThan(before);
  });

  test("before pools and nodes are known, strangers are dropped already", async () => {
    const filter = world.startFilter();
    await filter.firstTry;
    world.addPod("s", "10.0.0.9");
    expect(world.ping("s", NODE[4])).toBe(false);
    expect(world.ping("a", NODE[4])).toBe(true);
    expect(filter.readiness).toEqual({ ok: false, detail: "not programmed yet" });
  });

  test("portmap's rules go on working: from the world, from pods, from the very pod, and from the node", async () => {
    // As portmap 1.1.1 writes them, by iptables: DNAT, and masquerade for whoever is its own target.
    const nat = (...rule: readonly string[]): string => world.run("node", "iptables", "-t", "nat", "-A", ...rule);
    nat(
      "PREROUTING",
      ..."-m addrtype --dst-type LOCAL -p tcp --dport 8080 -j DNAT --to-destination 10.0.0.5:80".split(" "),
    );
    nat(
      "OUTPUT",
      ..."-m addrtype --dst-type LOCAL -p tcp --dport 8080 -j DNAT --to-destination 10.0.0.5:80".split(" "),
    );
    nat("POSTROUTING", ..."-s 10.0.0.5 -d 10.0.0.5 -p tcp --dport 80 -j MASQUERADE".split(" "));
    await started();
    for (const from of ["world", "b", "a", "node"])
      expect([from, world.connect(from, NODE[4], 8080)]).toEqual([from, "refused"]);
    expect(world.connect("b", A[4], 80)).toBe("refused");
    expect(world.dropped()).toBe(0);
  });

  test("a pod of a Calico agent on this node is one like any other", async () => {
    world.addPod("c", "10.0.0.20");
    // Felix's route: protocol 3, metric 1024. Source: calico-interop 4.2.
    world.ip("node", "route add 10.0.0.20 dev calic scope link proto 3 metric 1024");
    await started();
    expect(world.ping("c", WORLD[4])).toBe(true);
    expect(world.ping("c", A[4])).toBe(true);
    expect(world.ping("b", "10.0.0.20")).toBe(true);
  });

  test("a pod that routes 127.0.0.1 to its node does not reach what listens there for the node alone", async () => {
    world.openLoopback("a");
    // Without the table it does: the test's own check.
    expect(world.connect("a", "127.0.0.1", 80)).toBe("refused");
    await started();
    expect(world.connect("a", "127.0.0.1", 80)).toBe("silent");
    expect(world.dropped("loopback-from-pod")).toBeGreaterThan(0);
    expect(world.connect("a", NODE[4], 80)).toBe("refused");
  });

  test("tunnel packets come from nodes, and never from pods", async () => {
    const filter = await started();
    filter.state.setPool(
      fakePool("four", "10.0.0.0/16", { natOutgoing: true, vxlanMode: "CrossSubnet", disabled: true }),
    );
    filter.wake();
    await until(() => world.scripts.length === 2);
    const send = (from: string, to: string): void => void world.run(from, "bash", "-c", `echo x > /dev/udp/${to}/4789`);
    await until(() => world.ruleset().includes("tunnel-from-stranger"));
    send("a", WORLD[4]);
    await until(() => world.dropped("tunnel-from-pod") === 1);
    send("world", NODE[4]);
    await until(() => world.dropped("tunnel-from-stranger") === 1);
    filter.state.setNode(fakeNode("node-b", [WORLD[4]]));
    filter.wake();
    await until(() => world.scripts.length === 3);
    expect(world.scripts[2]).toBe(`add element inet gingham nodes-v4 { ${WORLD[4]}/32 }\n`);
    await until(() => world.ruleset().includes(WORLD[4]));
    send("world", NODE[4]);
    expect(world.dropped("tunnel-from-stranger")).toBe(1);
  });

  test("machines that the settings name may send tunnel packets, too; and pods, if these say so", async () => {
    const filter = await started({ externalNodes: [parseCIDR("192.0.2.8/29")], tunnelsFromPods: ["VXLAN"] });
    filter.state.setPool(fakePool("four", "10.0.0.0/16", { natOutgoing: true, vxlanMode: "Always" }));
    filter.wake();
    await until(() => world.ruleset().includes("192.0.2.8/29"));
    world.run("world", "nft", "add rule inet seen input udp dport 4789 counter");
    for (const [from, to] of [
      ["world", NODE[4]],
      ["a", WORLD[4]],
    ] as const)
      world.run(from, "bash", "-c", `echo x > /dev/udp/${to}/4789`);
    await until(() => world.run("world", "nft", "list chain inet seen input").includes("4789 counter packets 1 "));
    expect(world.dropped("tunnel-from-stranger")).toBe(0);
    expect(world.dropped("tunnel-from-pod")).toBe(0);
  });
});

describe("natOutgoing", () => {
  test.each(FAMILIES)("IPv%i: the world sees the node, and pods see each other", async (family) => {
    await started();
    expect(world.ping("a", WORLD[family])).toBe(true);
    expect(world.sourcesSeen()).toEqual([NODE[family]]);
    world.ip("world", `route add ${family === 4 ? "10.0.0.0/16" : "fd00::/64"} via ${NODE[family]}`);
    world.ip("world", `addr add ${family === 4 ? "10.0.200.1/32" : "fd00::200/128 nodad"} dev lo`);
    world.ip("node", `route add ${family === 4 ? "10.0.200.1" : "fd00::200"} via ${WORLD[family]}`);
    // A pod of another node: inside a pool, so its own eyes see the pod.
    expect(world.ping("a", family === 4 ? "10.0.200.1" : "fd00::200")).toBe(true);
    expect(world.sourcesSeen()).toEqual([A[family]]);
  });

  // calico-interop, appendix B 11.
  test.each(FAMILIES)("IPv%i: a pool that is disabled while it has addresses keeps its NAT", async (family) => {
    const filter = await started();
    for (const { metadata, spec } of POOLS) {
      filter.state.setPool(fakePool(metadata.name, spec.cidr, { ...spec, disabled: true }));
    }
    filter.wake();
    filter.state.setPool(fakePool("more", "10.99.0.0/24"));
    filter.wake();
    await until(() => world.scripts.length === 2);
    expect(world.scripts[1]).toBe("add element inet gingham all-pools-v4 { 10.99.0.0/24 }\n");
    await until(() => world.ruleset().includes("10.99.0.0/24"));
    expect(world.ping("a", WORLD[family])).toBe(true);
    expect(world.sourcesSeen()).toEqual([NODE[family]]);
  });

  test("a disabled pool over foreign addresses says: no NAT to here", async () => {
    const filter = await started();
    filter.state.setPool(fakePool("foreign", "192.0.2.0/24", { disabled: true }));
    filter.wake();
    await until(() => world.ruleset().includes("192.0.2.0/24"));
    world.ping("a", WORLD[4]);
    expect(world.sourcesSeen()).toEqual([A[4]]);
  });

  test("pools that overlap, come and go one inside the other, without a moment without NAT", async () => {
    const filter = await started();
    const pools = ["10.0.0.0/24", "10.0.0.0/8", "10.0.0.128/25", "0.0.0.0/0"];
    for (const [i, cidr] of [...pools, ...pools.toReversed()].entries()) {
      if (i < pools.length) filter.state.setPool(fakePool(cidr, cidr, { natOutgoing: true }));
      else filter.state.deletePool(cidr);
      const seen = world.metrics.turns;
      filter.wake();
      await new Promise((resolve) => setTimeout(resolve, 80));
      expect(world.metrics.failures).toBe(0);
      expect(world.metrics.turns).toBeGreaterThanOrEqual(seen);
    }
    await until(() => world.ruleset().includes("elements = { 10.0.0.0/16 }"));
    expect(world.scripts.slice(1).every((script) => !script.includes("table inet"))).toBe(true);
    expect(world.ping("a", WORLD[4])).toBe(true);
    expect(world.sourcesSeen()).toEqual([NODE[4]]);
  });

  test("only what leaves by the link that the settings name is masqueraded", async () => {
    const filter = await started({ natOutgoingInterface: "wan*" });
    world.ping("a", WORLD[4]);
    expect(world.sourcesSeen()).toEqual([A[4]]);
    await filter.stop();
    await started({ natOutgoingInterface: "eth*" });
    world.ping("b", WORLD[4]);
    expect(world.sourcesSeen()).toEqual([NODE[4]]);
  });

  test("nodes are left out when the settings say so", async () => {
    const filter = await started({ natOutgoingExclusions: "IPPoolsAndHostIPs" });
    world.ping("a", WORLD[4]);
    expect(world.sourcesSeen()).toEqual([NODE[4]]);
    filter.state.setNode(fakeNode("node-b", [WORLD[4]]));
    filter.wake();
    await until(() => world.ruleset().includes(WORLD[4]));
    world.ping("a", WORLD[4], A[4]);
    expect(world.sourcesSeen()).toEqual([A[4]]);
  });

  test.each(FAMILIES)("IPv%i: ports and address are those of the settings", async (family) => {
    world.ip("node", "addr add 192.0.2.77/32 dev lo");
    await started({ natPortRange: { min: 40_000, max: 40_009 }, natOutgoingAddress: parseIP("192.0.2.77") });
    world.ip("world", `route add 192.0.2.77 via ${NODE[4]}`);
    for (let i = 0; i < 3; i++) expect(world.connect("a", WORLD[family], 80)).toBe("refused");
    expect(world.sourcesSeen()).toEqual([family === 4 ? "192.0.2.77" : NODE[6]]);
    const ports = world.portsSeen();
    expect(ports.every((port) => port >= 40_000 && port < 40_010)).toBe(true);
    expect(ports.length).toBeGreaterThan(0);
  });

  test("a pool without natOutgoing, and an agent that is told so, leave the source", async () => {
    const filter = await started();
    filter.state.setPool(fakePool("four", "10.0.0.0/16"));
    filter.wake();
    await until(() => world.scripts.length === 2);
    expect(world.scripts[1]).toBe("delete element inet gingham nat-pools-v4 { 10.0.0.0/16 }\n");
    await until(() => isEmpty("nat-pools-v4"));
    world.ping("a", WORLD[4]);
    expect(world.sourcesSeen()).toEqual([A[4]]);
    // Without any, there is no chain for NAT, and the kernel need not track connections.
    filter.state.setPool(fakePool("six", "fd00::/64"));
    filter.wake();
    await until(() => !world.ruleset().includes("hook postrouting"));
    await filter.stop();
    await started({ natOutgoing: false });
    world.ping("b", WORLD[4]);
    expect(world.sourcesSeen()).toEqual([B[4]]);
  });
});

describe("the table in the kernel", () => {
  const FOREIGN =
    "table ip foreign {\n\tchain forward {\n\t\ttype filter hook forward priority 5; policy accept;\n\t\tcounter\n\t}\n}\n";

  test.each([
    ["the table deleted", "delete table inet gingham"],
    ["the table made dormant", "add table inet gingham { flags dormant; }"],
    ["the ruleset flushed, its chains left", "flush table inet gingham"],
    ["one chain flushed", "flush chain inet gingham from-workload"],
    ["a rule put before ours", "insert rule inet gingham from-workload accept"],
    [
      "a chain of somebody's",
      "add chain inet gingham mine { type filter hook prerouting priority -400; policy drop; }",
    ],
    ["a map of somebody's", "add map inet gingham mine { type ipv4_addr : verdict; }"],
    ["a set flushed", "flush set inet gingham nat-pools-v4"],
    ["an element of somebody's", "add element inet gingham all-pools-v4 { 192.0.2.3-192.0.2.9 }"],
    ["a policy changed", "add chain inet gingham prerouting { policy drop; }"],
    ["an element deleted", "delete element inet gingham all-pools-v4 { 10.0.0.0/16 }"],
    ["everybody's rules flushed", `flush ruleset\n${FOREIGN}`],
  ])("comes back as it was, at once: %s", async (_, script) => {
    world.run("node", "nft", "-f", "-", { input: FOREIGN });
    // The next look of its own would come in an hour.
    const filter = await started({}, { refreshMs: 3_600_000 });
    const right = world.run("node", "nft", "-s", "list", "table", "inet", "gingham");
    world.run("node", "nft", "-f", "-", { input: script });
    await until(() => world.metrics.repaired > 0);
    await until(() => {
      try {
        return world.run("node", "nft", "-s", "list", "table", "inet", "gingham") === right;
      } catch {
        return false;
      }
    });
    expect(world.log.said("warn")).toContain("table inet gingham was changed by another program; restored");
    expect(world.run("node", "nft", "-s", "list", "table", "ip", "foreign")).toBe(
      FOREIGN.replace("priority 5", "priority filter + 5"),
    );
    expect(filter.findings()).toEqual([]);
  });

  test("what somebody deletes is written again in one run of nft, without a look", async () => {
    await started({}, { refreshMs: 3_600_000 });
    const { listings } = world;
    // For a second after a write, a notification may be its echo.
    await new Promise((resolve) => setTimeout(resolve, 1100));
    const written = world.scripts.length;
    world.run("node", "nft", "delete", "table", "inet", "gingham");
    await until(() => world.metrics.repaired > 0);
    expect([world.listings - listings, world.scripts.length - written]).toEqual([0, 1]);
    expect(world.ruleset()).toContain("table inet gingham");
  });

  test("neither other tables' changes nor its own cost a look; another program's of its own table does", async () => {
    const filter = await started({}, { refreshMs: 3_600_000 });
    const { listings } = world;
    const rules = Array.from({ length: 300 }, (_, i) => `\t\tip saddr 10.${i >> 8}.${i & 255}.0/24 counter`);
    // Of the same name in another family, too: it is another table.
    for (const table of ["ip foreign", "inet foreign", "ip gingham", "inet gingham2"])
      world.run("node", "nft", "-f", "-", { input: `table ${table} {\n\tchain c {\n${rules.join("\n")}\n\t}\n}\n` });
    world.run("node", "nft", "delete", "table", "ip", "gingham");
    filter.state.setPool(fakePool("four", "10.8.0.0/16", { natOutgoing: true }));
    filter.wake();
    await until(() => world.ruleset().includes("10.8.0.0/16"));
    // Notifications come in order, so once this one has led to a look, those before have led to none.
    world.run("node", "nft", "add", "counter", "inet", "gingham", "strange");
    await until(() => world.metrics.repaired === 1);
    expect(world.listings).toBe(listings + 1);
  });

  test("a restart on a table that is right writes nothing, whatever the settings' order; stop leaves it", async () => {
    const filter = await started();
    await filter.stop();
    const before = world.ruleset();
    expect(before).toContain("table inet gingham");
    await started();
    expect(world.ruleset()).toBe(before);
    expect(world.scripts).toHaveLength(1);
    expect(world.log.said("info")).toContain("packet filter: table inet gingham adopted as it was");
  });

  test("an agent that restarts on a table keeps its sets until it knows pools and nodes", async () => {
    await (await started()).stop();
    const before = world.ruleset();
    const filter = world.startFilter();
    await filter.firstTry;
    expect(world.ruleset()).toBe(before);
  });

  test("a table that is written anew loses no packet and no connection, and lets no spoofed one through", async () => {
    await (await started()).stop();
    world.addAddress("b", "10.0.7.7");
    world.sourcesSeen();
    const ping = flood("a", []);
    const spoof = flood("b", ["-I", "10.0.7.7"]);
    for (let i = 0; i < 12; i++) {
      // Each differs from the one before, so each writes the whole table.
      const filter = await started({ natPortRange: { min: 30_000 + i, max: 40_000 } });
      await filter.stop();
    }
    expect(world.scripts.filter((script) => script.startsWith("add table"))).toHaveLength(13);
    expect(await ping).toMatch(/, 0% packet loss/);
    expect(await spoof).toMatch(/, 100% packet loss/);
    expect(world.sourcesSeen()).toEqual([NODE[4]]);
  });

  test("what the agent drops is in its metrics", async () => {
    await started({}, { refreshMs: 50 });
    world.addPod("s", "10.0.0.9");
    world.ping("s", NODE[4]);
    await until(() => world.metrics.dropped.get("unknown-source") === 1);
  });
});

function isEmpty(set: string): boolean {
  return !world.run("node", "nft", "list", "set", "inet", "gingham", set).includes("elements");
}

/** 1,500 pings to the world in 3 s. */
async function flood(from: string, args: readonly string[]): Promise<string> {
  const ping = ["ping", "-q", "-n", "-i", "0.002", "-c", "1500", "-W", "1", ...args, WORLD[4]];
  const child = spawn("ip", ["netns", "exec", world.name(from), ...ping], { stdio: ["ignore", "pipe", "inherit"] });
  const [output] = await Promise.all([text(child.stdout), once(child, "close")]);
  return output;
}

/** Waits for the kernel to agree; fails by the time limit. */
async function until(isDone: () => boolean): Promise<void> {
  const endMs = Date.now() + 8000;
  while (!isDone()) {
    if (Date.now() > endMs) throw new Error(`Still not so after 8 s: ${isDone.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

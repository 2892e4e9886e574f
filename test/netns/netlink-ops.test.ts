// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatCIDR, parseCIDR } from "../../src/net/cidr.ts";
import { parseIP } from "../../src/net/ip.ts";
import { parseMAC } from "../../src/net/mac.ts";
import { Conn } from "../../src/netlink/conn.ts";
import { Monitor } from "../../src/netlink/monitor.ts";
import { openConnIn, withNetns } from "../../src/netlink/netns.ts";
import { deleteAddr, listAddrs, replaceAddr } from "../../src/netlink/ops/addr.ts";
import { deleteLink, findLink, listLinks, newLink, setLink, setLinkUp } from "../../src/netlink/ops/link.ts";
import { deleteFDB, deleteNeigh, listNeighs, replaceFDB, replaceNeigh } from "../../src/netlink/ops/neigh.ts";
import { addRoute, deleteRoute, listRoutes, replaceRoute } from "../../src/netlink/ops/route.ts";
import { addRule, deleteRule, listRules } from "../../src/netlink/ops/rule.ts";
import { AF_BRIDGE, AF_INET, RT_TABLE_MAIN, RTN_BLACKHOLE } from "../../src/netlink/wire/constants.ts";
import { enterHost, ip, Netns, rows } from "./netlink-fixture.ts";

let host: Netns;
let conn: Conn;
let up0: number;

beforeAll(() => {
  host = enterHost("ops-host");
  conn = Conn.open();
  up0 = findLink(conn, { name: "up0" })?.index ?? 0;
});

afterAll(() => {
  conn.close();
  host[Symbol.dispose]();
});

describe("links", () => {
  test("newLink() makes VXLAN and bridge as iproute2 shows them, and listLinks() reads them back", () => {
    conn.executeAll([
      newLink({
        name: "vxlan.test",
        mtu: 1450,
        address: parseMAC("66:00:00:00:00:01"),
        info: { kind: "vxlan", id: 4096, local: parseIP("192.0.2.1"), link: up0, port: 4789, learning: false },
      }),
      newLink({ name: "br.test", group: 7, info: { kind: "bridge", priority: 4096 } }),
    ]);
    const [vxlan] = rows("ip", "-d link show vxlan.test");
    expect(vxlan).toMatchObject({
      mtu: 1450,
      address: "66:00:00:00:00:01",
      linkinfo: {
        info_kind: "vxlan",
        info_data: { id: 4096, local: "192.0.2.1", link: "up0", port: 4789, learning: false },
      },
    });
    const [bridge] = rows("ip", "-d link show br.test");
    expect(bridge).toMatchObject({ linkinfo: { info_data: { priority: 4096 } } });
    const listed = listLinks(conn);
    expect(new Set(listed.map((link) => link.name))).toEqual(new Set(rows("ip", "link show").map((r) => r["ifname"])));
    expect(listed.find((link) => link.name === "br.test")).toMatchObject({ group: 7, info: { kind: "bridge" } });
    const index = Number(bridge?.["ifindex"]);
    conn.executeAll([setLink({ index, name: "br.renamed", mtu: 1300, alias: "a bridge" }), setLinkUp(index)]);
    expect(rows("ip", "link show br.renamed")).toMatchObject([{ ifindex: index, mtu: 1300, ifalias: "a bridge" }]);
    conn.executeAll([deleteLink({ index }), deleteLink({ name: "vxlan.test" })]);
    expect(findLink(conn, { index })).toBeUndefined();
    expect(findLink(conn, { name: "vxlan.test" })).toBeUndefined();
  });

  test("an error carries errno, the kernel's words and the object", () => {
    const vxlan = newLink({ name: "vxbad", info: { kind: "vxlan", id: 0x1000000 } });
    expect(() => conn.execute(vxlan)).toThrow(
      expect.objectContaining({ errnoName: "ERANGE", op: "RTM_NEWLINK vxbad", extack: expect.anything() as unknown }),
    );
    expect(() => conn.execute(deleteLink({ name: "nothing" }))).toThrow(
      expect.objectContaining({ errnoName: "ENODEV" }),
    );
  });
});

describe("addresses, neighbours and rules", () => {
  test("replaceAddr() and deleteAddr() agree with iproute2", () => {
    const addrs = [
      { index: up0, ip: parseIP("198.51.100.7"), prefixLength: 32 },
      { index: up0, ip: parseIP("2001:db8:7::7"), prefixLength: 128 },
    ];
    conn.executeAll([...addrs, ...addrs].map(replaceAddr));
    const shown = JSON.stringify(rows("ip", "address show up0"));
    expect(shown).toContain('"local":"198.51.100.7","prefixlen":32');
    expect(shown).toContain('"local":"2001:db8:7::7","prefixlen":128');
    expect(listAddrs(conn, { family: 4 }).filter((a) => a.index === up0)).toHaveLength(2);
    expect(listAddrs(conn).some((a) => a.address === addrs[1]?.ip)).toBe(true);
    conn.executeAll(addrs.map(deleteAddr));
    expect(JSON.stringify(rows("ip", "address show up0"))).not.toContain("198.51.100.7");
  });

  test("replaceNeigh() and replaceFDB() make what a remote VXLAN end needs", () => {
    conn.execute(newLink({ name: "vx0", info: { kind: "vxlan", id: 9, port: 4789, learning: false } }));
    const index = findLink(conn, { name: "vx0" })?.index ?? 0;
    const linkAddress = parseMAC("66:00:00:00:00:02");
    const neigh = { index, ip: parseIP("10.65.9.0"), linkAddress };
    const fdb = { index, linkAddress, remote: parseIP("192.0.2.9") };
    conn.executeAll([setLinkUp(index), replaceNeigh(neigh), replaceFDB(fdb), replaceNeigh(neigh), replaceFDB(fdb)]);
    expect(rows("ip", "neigh show dev vx0 nud permanent")).toMatchObject([{ dst: "10.65.9.0", lladdr: linkAddress }]);
    expect(rows("bridge", "fdb show dev vx0")).toMatchObject([
      { mac: linkAddress, dst: "192.0.2.9", state: "permanent" },
    ]);
    expect(listNeighs(conn, AF_INET, index)).toMatchObject([{ dst: neigh.ip, linkAddress }]);
    expect(listNeighs(conn, AF_BRIDGE, index)).toMatchObject([{ dst: fdb.remote, linkAddress }]);
    conn.executeAll([deleteNeigh(neigh), deleteFDB(fdb)]);
    expect(listNeighs(conn, AF_BRIDGE, index)).toEqual([]);
    conn.execute(deleteLink({ index }));
  });

  test("addRule() and listRules() agree with iproute2", () => {
    const rule = { family: 4, priority: 99, mark: 0x10, markMask: 0xf0, table: 1000 } as const;
    conn.execute(addRule(rule));
    expect(rows("ip", "rule show priority 99")).toMatchObject([{ fwmark: "0x10", fwmask: "0xf0", table: "1000" }]);
    expect(listRules(conn, 4).find((r) => r.priority === 99)).toMatchObject(rule);
    conn.execute(deleteRule(rule));
    expect(listRules(conn, 4).some((r) => r.priority === 99)).toBe(false);
  });
});

describe("routes", () => {
  test("replaceRoute() of 1000 routes shows in iproute2, and a bad one stops no other", () => {
    const good = Array.from({ length: 1000 }, (_, i) =>
      replaceRoute({
        dst: parseCIDR(`10.${i >> 8}.${i & 255}.0/26`),
        gateway: parseIP("192.0.2.9"),
        oif: up0,
        protocol: 80,
      }),
    );
    const bad = addRoute({ dst: parseCIDR("10.0.0.0/26"), gateway: parseIP("203.0.113.9"), protocol: 80 });
    const results = conn.executeBatch([...good.slice(0, 500), bad, ...good.slice(500)]);
    expect(results.map(({ error }) => error?.errnoName).filter((name) => name !== undefined)).toHaveLength(1);
    expect(results[500]?.error?.errnoName).toBeDefined();
    expect(rows("ip", "route show proto 80")).toHaveLength(1000);
    const listed = listRoutes(conn, { family: 4, table: RT_TABLE_MAIN }).filter((route) => route.protocol === 80);
    const shown = rows("ip", "route show proto 80").map((row) => row["dst"]);
    expect(new Set(listed.map((route) => formatCIDR(route.dst)))).toEqual(new Set(shown));
    conn.executeAll(listed.map(deleteRoute));
    expect(rows("ip", "route show proto 80")).toEqual([]);
  });

  test("listRoutes() of a namespace without any route is empty", () => {
    using empty = new Netns("ops-empty");
    using inside = openConnIn(empty.path);
    expect(listRoutes(inside, { family: 4, table: RT_TABLE_MAIN })).toEqual([]);
    expect(listRoutes(inside, { family: 6, table: RT_TABLE_MAIN })).toEqual([]);
  });

  test("dump() misses none of the lasting routes while another process changes the table", async () => {
    const dir = mkdtempSync(join(tmpdir(), "netl-"));
    const batch = join(dir, "batch");
    const lasting = Array.from({ length: 2000 }, (_, i) => parseCIDR(`10.${100 + (i >> 8)}.${i & 255}.0/26`));
    conn.executeAll(lasting.map((dst) => addRoute({ dst, type: RTN_BLACKHOLE, protocol: 80 })));
    const churn = Array.from({ length: 4000 }, (_, i) => `blackhole 10.${50 + (i >> 8)}.${i & 255}.128/26 proto 81`);
    writeFileSync(batch, [...churn.map((r) => `route add ${r}`), ...churn.map((r) => `route del ${r}`)].join("\n"));
    const child = spawn("ip", ["-batch", batch], { stdio: "ignore" });
    const exited = once(child, "exit");
    while (child.exitCode === null) {
      const ours = listRoutes(conn, { family: 4, table: RT_TABLE_MAIN }).filter((route) => route.protocol === 80);
      expect(ours).toHaveLength(lasting.length);
      await setImmediate();
    }
    await exited;
    rmSync(dir, { recursive: true });
    conn.executeAll(lasting.map((dst) => deleteRoute({ dst, type: RTN_BLACKHOLE })));
  });
});

describe("Monitor", () => {
  test("tells each kind once a look, and nothing at rest", () => {
    const seen: string[] = [];
    using monitor = new Monitor({ kinds: ["link", "addr", "route", "neigh"], onChange: (kind) => seen.push(kind) });
    monitor.poll();
    expect(seen).toEqual([]);
    ip("route add blackhole 10.1.0.0/26");
    ip("route delete blackhole 10.1.0.0/26");
    monitor.poll();
    expect(seen).toEqual(["route"]);
    ip("link set up1 alias x");
    ip("addr add 198.51.100.1/32 dev up1");
    ip("neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev up0");
    monitor.poll();
    expect(new Set(seen)).toEqual(new Set(["route", "link", "addr", "neigh"]));
    ip("addr delete 198.51.100.1/32 dev up1");
  });

  test("tells an overrun when it was not read in time", () => {
    const seen: string[] = [];
    using monitor = new Monitor({ kinds: ["route"], onChange: (kind) => seen.push(kind) });
    const routes = Array.from({ length: 20_000 }, (_, i) => ({
      dst: parseCIDR(`10.${i >> 8}.${i & 255}.64/26`),
      type: RTN_BLACKHOLE,
    }));
    conn.executeAll(routes.map(addRoute));
    monitor.poll();
    expect(seen).toContain("overrun");
    conn.executeAll(routes.map(deleteRoute));
    monitor.poll();
    seen.length = 0;
    monitor.poll();
    expect(seen).toEqual([]);
  });
});

describe("withNetns()", () => {
  test("runs inside and comes back, also after an error", () => {
    using other = new Netns("ops-other");
    const linkNames = (): unknown[] => rows("ip", "link show").map((row) => row["ifname"]);
    expect(other.run(linkNames)).not.toContain("up0");
    expect(linkNames()).toContain("up0");
    expect(() =>
      other.run(() => {
        throw new RangeError("inside");
      }),
    ).toThrow(RangeError);
    expect(linkNames()).toContain("up0");
  });

  test("refuses an asynchronous function, by type and when it runs", () => {
    using other = new Netns("ops-async");
    // @ts-expect-error A function whose result is a Promise must not compile.
    expect(() => other.run(async () => 1)).toThrow("asynchronous");
    // @ts-expect-error Nor here.
    expect(() => withNetns({ fd: -1 }, async () => 1)).toThrow(expect.objectContaining({ errnoName: "EBADF" }));
  });
});

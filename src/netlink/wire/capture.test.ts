// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatCIDR } from "../../net/cidr.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import { decodeAddr } from "./addr.ts";
import * as c from "./constants.ts";
import { DecodeError } from "./errors.ts";
import { decodeLink } from "./link.ts";
import { type NetlinkMessage, splitMessages } from "./message.ts";
import { decodeNeigh } from "./neigh.ts";
import { decodeRoute } from "./route.ts";
import { decodeRule } from "./rule.ts";

// Dumps of a Linux 6.18 namespace that was set up with iproute2: what a kernel really says, byte for byte.
const CAPTURE = readFileSync(new URL("../../../test/captures/rtnetlink-6.18.bin", import.meta.url));
const messages = splitMessages(CAPTURE);

function ofType<T>(type: number, decode: (payload: Uint8Array) => T): T[] {
  return messages.filter((m) => m.type === type).map((m) => decode(m.payload));
}

const text = (ip: IP | undefined): string | undefined => (ip === undefined ? undefined : formatIP(ip));

describe("decode() of a kernel's dump", () => {
  const links = new Map(ofType(c.RTM_NEWLINK, decodeLink).map((link) => [link.name, link]));

  test("reads a veth end with its alias, MAC and the namespace of its peer", () => {
    expect(links.get("eth0")).toMatchObject({
      address: "ee:ee:ee:ee:ee:ee",
      mtu: 1450,
      alias: "test",
      linkNetnsID: 0,
      info: { kind: "veth" },
    });
    expect(links.get("eth0")?.link).toBeGreaterThan(0);
  });

  test("reads VXLAN devices of both families, and a bridge", () => {
    const vx4 = links.get("vx4")?.info;
    const vx6 = links.get("vx6")?.info;
    expect(vx4).toMatchObject({ kind: "vxlan", id: 4096, port: 4789, learning: false, link: links.get("eth0")?.index });
    expect(vx6).toMatchObject({ kind: "vxlan", id: 7, port: 8472, ttl: 16 });
    expect(vx4?.kind === "vxlan" && text(vx4.local)).toBe("192.0.2.1");
    expect(vx6?.kind === "vxlan" && [text(vx6.local), text(vx6.group)]).toEqual(["2001:db8::1", "2001:db8::2"]);
    expect(links.get("br0")?.info).toMatchObject({ kind: "bridge", priority: 4096 });
  });

  test("keeps the name of a kind that it does not know", () => {
    expect(links.get("ifb9")?.info).toEqual({ kind: "other", name: "ifb" });
  });

  test("reads addresses", () => {
    const addrs = ofType(c.RTM_NEWADDR, decodeAddr);
    const v4 = addrs.find((a) => a.label === "eth0");
    expect([text(v4?.local), text(v4?.broadcast), v4?.prefixLength]).toEqual(["192.0.2.1", "192.0.2.255", 24]);
    const v6 = addrs.find((a) => text(a.address) === "2001:db8::1");
    expect(v6?.flags).toBe(c.IFA_F_PERMANENT | c.IFA_F_NODAD);
  });

  test("reads routes of every form", () => {
    const routes = new Map(ofType(c.RTM_NEWROUTE, decodeRoute).map((r) => [`${formatCIDR(r.dst)} ${r.table}`, r]));
    expect(routes.get("10.0.0.0/26 254")).toMatchObject({ type: c.RTN_BLACKHOLE, protocol: 80 });
    expect(routes.get("10.0.0.5/32 254")).toMatchObject({ scope: c.RT_SCOPE_LINK, priority: 1024, protocol: 80 });
    const onlink = routes.get("10.0.1.0/26 254");
    expect([text(onlink?.gateway), (onlink?.flags ?? 0) & c.RTNH_F_ONLINK]).toEqual(["192.0.2.9", c.RTNH_F_ONLINK]);
    expect(onlink?.metrics).toEqual({ mtu: 1400 });
    const hops = routes.get("10.0.2.0/26 254")?.multipath;
    expect(hops?.map((hop) => [text(hop.gateway), hop.hops])).toEqual([
      ["192.0.2.7", 0],
      ["192.0.2.8", 2],
    ]);
    expect(routes.get("10.0.3.0/24 254")?.type).toBe(c.RTN_UNREACHABLE);
    expect(text(routes.get("10.5.0.0/16 254")?.via)).toBe("2001:db8::9");
    expect(text(routes.get("0.0.0.0/0 1000")?.prefSrc)).toBe("192.0.2.1");
    expect(routes.get("2001:db8:1::/122 254")).toMatchObject({ type: c.RTN_BLACKHOLE, priority: 1024 });
    expect(text(routes.get("2001:db8:2::/122 254")?.gateway)).toBe("2001:db8::9");
  });

  test("reads neighbours, FDB entries and rules", () => {
    const neighs = ofType(c.RTM_NEWNEIGH, decodeNeigh);
    const arp = neighs.find((n) => n.linkAddress === "02:00:00:00:00:09");
    expect([text(arp?.dst), arp?.state]).toEqual(["192.0.2.9", c.NUD_PERMANENT]);
    const fdb = neighs.find((n) => n.linkAddress === "02:00:00:00:00:0a");
    expect([text(fdb?.dst), fdb?.family, (fdb?.flags ?? 0) & c.NTF_SELF]).toEqual([
      "192.0.2.10",
      c.AF_BRIDGE,
      c.NTF_SELF,
    ]);
    const rules = new Map(ofType(c.RTM_NEWRULE, decodeRule).map((rule) => [rule.priority, rule]));
    expect(rules.get(99)).toMatchObject({ mark: 0x10, markMask: 0xf0, table: 1000, suppressPrefixLength: 0 });
    expect(rules.get(50)).toMatchObject({ inIface: "eth0", action: c.FR_ACT_PROHIBIT });
  });
});

const DECODERS: Readonly<Record<number, (payload: Uint8Array) => unknown>> = {
  [c.RTM_NEWLINK]: decodeLink,
  [c.RTM_NEWADDR]: decodeAddr,
  [c.RTM_NEWROUTE]: decodeRoute,
  [c.RTM_NEWNEIGH]: decodeNeigh,
  [c.RTM_NEWRULE]: decodeRule,
};

test("decode() reads mutated real messages or throws DecodeError", () => {
  const real = messages.filter((m) => DECODERS[m.type] !== undefined);
  const change = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }));
  fc.assert(
    fc.property(
      fc.constantFrom<NetlinkMessage>(...real),
      fc.array(change, { minLength: 1, maxLength: 6 }),
      (m, changes) => {
        const payload = m.payload.slice();
        for (const [at, value] of changes) payload[at % payload.length] = value;
        try {
          DECODERS[m.type]?.(payload);
        } catch (error) {
          expect(error).toBeInstanceOf(DecodeError);
        }
      },
    ),
    { numRuns: 1000 },
  );
});

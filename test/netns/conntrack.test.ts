// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { formatIP, parseIP } from "../../src/net/ip.ts";
import { Conn } from "../../src/netlink/conn.ts";
import { createDirectKernel, type Kernel } from "../../src/netlink/kernel.ts";
import { type ConntrackEntry, deleteConntrack, newConntrack } from "../../src/netlink/ops/conntrack.ts";
import { type ConntrackTuple, decodeConntrack, encodeConntrack } from "../../src/netlink/wire/conntrack.ts";
import { AF_INET, AF_INET6, IPCTNL_MSG_CT_GET, NETLINK_NETFILTER } from "../../src/netlink/wire/constants.ts";
import { createKernel } from "../../src/netlink/worker.ts";
import { enterHost, ip, Netns, planFor, sh } from "./netlink-fixture.ts";

const [ICMP, TCP, UDP, GRE, ICMPV6, SCTP, UNKNOWN] = [1, 6, 17, 47, 58, 132, 253] as const;
const POD = "10.65.0.1";
const POD6 = "fd00:65::1";

let host: Netns;
let kernel: Kernel;
let table: Conn;

beforeAll(() => {
  host = enterHost("ct-host");
  kernel = createDirectKernel();
  table = Conn.open({ protocol: NETLINK_NETFILTER });
  // Nothing is tracked in a namespace until a rule asks for it.
  sh("nft", "add table inet services; add chain inet services pre { type nat hook prerouting priority dstnat; }");
  sh("nft", `add rule inet services pre ip daddr 10.96.0.10 udp dport 53 dnat ip to ${POD}`);
  sh("nft", `add rule inet services pre ip6 daddr fd00:96::10 udp dport 53 dnat ip6 to ${POD6}`);
});

afterAll(async () => {
  table.close();
  await kernel.close();
  host[Symbol.dispose]();
});

beforeEach(() => {
  sh("conntrack", "-F");
});

/** What the kernel has, each as `source>destination` of both directions. */
function entries(): string[] {
  const all = { type: IPCTNL_MSG_CT_GET, flags: 0, encode: encodeAll };
  return table.dump(all, ({ payload }) => words(decodeConntrack(payload))).sort();
}

const encodeAll = (w: Parameters<typeof encodeConntrack>[0]): void => encodeConntrack(w, { family: 0 });

function words({ original, reply }: ReturnType<typeof decodeConntrack>): string {
  return [original, reply].map((t) => (t === undefined ? "?" : `${formatIP(t.src)}>${formatIP(t.dst)}`)).join(" ");
}

type Ends = readonly [src: string, dst: string];

/** An entry whose answers come from `reply[0]` and go to `reply[1]`; without NAT these are the original's ends. */
function entry(ends: Ends, more: Partial<ConntrackTuple> = {}, reply: Ends = [ends[1], ends[0]]): ConntrackEntry {
  const [src, dst] = ends.map(parseIP) as [ConntrackTuple["src"], ConntrackTuple["dst"]];
  const [replySrc, replyDst] = reply.map(parseIP) as [ConntrackTuple["src"], ConntrackTuple["dst"]];
  const forth = { protocol: UDP, srcPort: 4000, dstPort: 53, ...more };
  const { srcPort, dstPort, icmpType, icmpv6Type, ...same } = forth;
  return {
    family: ends[0].includes(":") ? AF_INET6 : AF_INET,
    timeout: 600,
    original: { src, dst, ...forth },
    reply: {
      src: replySrc,
      dst: replyDst,
      ...same,
      srcPort: dstPort,
      dstPort: srcPort,
      ...(icmpType !== undefined && { icmpType: 0 }),
      ...(icmpv6Type !== undefined && { icmpv6Type: 129 }),
    },
  };
}

function make(...wanted: readonly ConntrackEntry[]): string[] {
  table.executeAll(wanted.map(newConntrack));
  return wanted.map(words).sort();
}

describe("flush()", () => {
  test("deletes what has the address at any of the four ends, and nothing beside it", async () => {
    const kept = make(
      entry(["10.65.0.10", "192.0.2.7"]),
      entry(["192.0.2.7", "10.65.0.2"]),
      entry(["192.0.2.7", "10.96.0.11"], {}, ["10.65.0.11", "192.0.2.7"]),
      entry(["fd00:65::11", "2001:db8::7"]),
    );
    make(
      entry([POD, "192.0.2.7"]),
      entry(["192.0.2.7", POD]),
      entry(["192.0.2.8", "10.96.0.10"], {}, [POD, "192.0.2.8"]),
      entry(["10.65.0.9", "192.0.2.7"], { srcPort: 4001 }, ["192.0.2.7", POD]),
    );
    expect(entries()).toHaveLength(8);
    expect(await kernel.conntrack.flush([parseIP(POD)])).toEqual({ kind: "flushed", entries: 4 });
    expect(entries()).toEqual(kept);
  });

  test("deletes of IPv6 just the address, which the kernel's own filter does not", async () => {
    const kept = make(
      entry(["fd00:65::2", "2001:db8::7"]),
      entry(["fd00:65::10", "2001:db8::7"]),
      entry([POD, "192.0.2.7"]),
    );
    make(entry([POD6, "2001:db8::7"]), entry(["2001:db8::7", "fd00:96::10"], {}, [POD6, "2001:db8::7"]));
    expect(await kernel.conntrack.flush([parseIP(POD6)])).toEqual({ kind: "flushed", entries: 2 });
    expect(entries()).toEqual(kept);
  });

  test("leaves the connections of an address alone while a link of the host has it, and only then", async () => {
    const kept = make(entry([POD, "192.0.2.7"]), entry([POD6, "2001:db8::7"]));
    const ips = [parseIP(POD), parseIP(POD6)];
    ip(`route add ${POD}/32 dev up0`);
    ip(`-6 route add ${POD6}/128 dev up0`);
    expect(await kernel.conntrack.flush(ips)).toEqual({ kind: "flushed", entries: 0 });
    expect(entries()).toEqual(kept);
    // A fixed address that has moved to another node.
    ip(`route replace ${POD}/32 via 192.0.2.254`);
    ip(`-6 route replace ${POD6}/128 via 2001:db8::fe`);
    expect(await kernel.conntrack.flush(ips)).toEqual({ kind: "flushed", entries: 2 });
    ip(`route del ${POD}/32`);
    ip(`-6 route del ${POD6}/128`);
  });

  test("serves many addresses of both families in one call", async () => {
    const numbers = Array.from({ length: 100 }, (_, i) => i + 1);
    const kept = make(entry(["10.65.1.1", "192.0.2.7"]));
    make(
      ...numbers.map((n) => entry([`10.65.0.${n}`, "192.0.2.7"])),
      ...numbers.map((n) => entry([`fd00:65::${n.toString(16)}`, "2001:db8::7"])),
    );
    const ips = numbers.flatMap((n) => [parseIP(`10.65.0.${n}`), parseIP(`fd00:65::${n.toString(16)}`)]);
    expect(await kernel.conntrack.flush(ips)).toEqual({ kind: "flushed", entries: 200 });
    expect(entries()).toEqual(kept);
  });

  test.each([
    { name: "TCP", ends: [POD, "192.0.2.7"], more: { protocol: TCP } },
    { name: "UDP", ends: [POD, "192.0.2.7"], more: { protocol: UDP } },
    { name: "SCTP", ends: [POD, "192.0.2.7"], more: { protocol: SCTP } },
    { name: "GRE", ends: [POD, "192.0.2.7"], more: { protocol: GRE, srcPort: 0, dstPort: 0 } },
    { name: "ICMP", ends: [POD, "192.0.2.7"], more: { protocol: ICMP, icmpID: 7, icmpType: 8, icmpCode: 0 } },
    {
      name: "ICMPv6",
      ends: [POD6, "2001:db8::7"],
      more: { protocol: ICMPV6, icmpv6ID: 7, icmpv6Type: 128, icmpv6Code: 0 },
    },
    { name: "a protocol unknown to the kernel", ends: [POD, "192.0.2.7"], more: { protocol: UNKNOWN } },
    { name: "a zone", ends: [POD, "192.0.2.7"], more: {}, zone: 5 },
    { name: "a zone of one direction", ends: [POD, "192.0.2.7"], more: { zone: 6 } },
  ] as const)("deletes entries of $name", async ({ ends, more, ...rest }) => {
    const { reply, ...wanted } = entry(ends, more);
    // The zone of one direction is not the other's.
    const { zone: _, ...back } = reply ?? {};
    table.execute(newConntrack({ ...wanted, reply: back as ConntrackTuple, ...rest }));
    expect(entries()).toHaveLength(1);
    expect(await kernel.conntrack.flush(ends.map(parseIP))).toEqual({ kind: "flushed", entries: 1 });
    expect(entries()).toEqual([]);
  });

  test("answers at once where nothing is tracked, and for no address", async () => {
    expect(await kernel.conntrack.flush([parseIP(POD)])).toEqual({ kind: "flushed", entries: 0 });
    const kept = make(entry([POD, "192.0.2.7"]));
    expect(await kernel.conntrack.flush([])).toEqual({ kind: "flushed", entries: 0 });
    expect(entries()).toEqual(kept);
  });

  test("lets the thread's other work in while it goes through a large table", async () => {
    const many = Array.from({ length: 5000 }, (_, i) => entry([`10.70.${i >> 8}.${i & 255}`, "192.0.2.7"]));
    make(...many);
    let turns = 0;
    let isDone = false;
    const count = (): void => {
      turns++;
      if (!isDone) setImmediate(count);
    };
    setImmediate(count);
    await kernel.conntrack.flush([parseIP("10.70.0.1")]);
    isDone = true;
    expect(turns).toBeGreaterThan(20);
    expect(entries()).toHaveLength(4999);
  });

  test("runs one after another when asked for side by side", async () => {
    make(entry([POD, "192.0.2.7"]), entry(["10.65.0.2", "192.0.2.7"]));
    const flushes = [POD, "10.65.0.2"].map((address) => kernel.conntrack.flush([parseIP(address)]));
    expect(await Promise.all(flushes)).toEqual([
      { kind: "flushed", entries: 1 },
      { kind: "flushed", entries: 1 },
    ]);
  });
});

describe("deleteConntrack()", () => {
  test("leaves an entry of the same tuples that is not the one that was seen", () => {
    const wanted = entry([POD, "192.0.2.7"]);
    const kept = make(wanted);
    const [result] = table.executeBatch([deleteConntrack({ ...wanted, id: 12345 })]);
    expect(result?.error?.errno).toBe(constants.errno.ENOENT);
    expect(entries()).toEqual(kept);
  });
});

describe("a pod that goes", () => {
  let pods: Netns[] = [];
  afterEach(() => {
    for (const pod of pods) pod[Symbol.dispose]();
    pods = [];
  });

  async function wire(n: number): Promise<{ pod: Netns; link: { hostIface: string; hostIfIndex: number } }> {
    const pod = new Netns(`ct-pod${n}`);
    pods.push(pod);
    const plan = planFor(pod, n);
    const { hostIfIndex } = await kernel.wiring.wire(plan);
    return { pod, link: { hostIface: plan.hostIface, hostIfIndex } };
  }

  function sendUDP(from: Netns, to: string): void {
    from.run(() => sh("bash", "-c", `echo hello > /dev/udp/${to}/53`));
  }

  test("leaves no flow behind, of its own or through NAT to it, and takes none of others", async () => {
    const [server, client] = [await wire(1), await wire(2)];
    for (const to of ["10.96.0.10", "fd00:96::10", "192.0.2.1"]) sendUDP(client.pod, to);
    sendUDP(server.pod, "192.0.2.1");
    const toService = ["10.65.0.2>10.96.0.10 10.65.0.1>10.65.0.2", "fd00:65::2>fd00:96::10 fd00:65::1>fd00:65::2"];
    const toHost = "10.65.0.2>192.0.2.1 192.0.2.1>10.65.0.2";
    const own = "10.65.0.1>192.0.2.1 192.0.2.1>10.65.0.1";
    expect(entries()).toEqual(expect.arrayContaining([...toService, toHost, own]));
    const ips = [parseIP(POD), parseIP(POD6)];
    // While the host routes to them, they are a pod's.
    expect(await kernel.conntrack.flush(ips)).toEqual({ kind: "flushed", entries: 0 });
    await kernel.wiring.unwire(server.link);
    expect(await kernel.conntrack.flush(ips)).toMatchObject({ kind: "flushed" });
    const left = entries();
    expect(left.filter((line) => / ?(10\.65\.0\.1|fd00:65::1)(>| |$)/.test(line))).toEqual([]);
    expect(left).toContain(toHost);
    await kernel.wiring.unwire(client.link);
  });
});

describe("through the agent's threads", () => {
  test("flush() answers the same", async () => {
    const threads = await createKernel({ onFatal: () => {} });
    try {
      make(entry([POD, "192.0.2.7"]), entry(["fd00:65::2", "2001:db8::7"]));
      const ips = [parseIP(POD), parseIP("fd00:65::2")];
      expect(await threads.conntrack.flush(ips)).toEqual({ kind: "flushed", entries: 2 });
      expect(entries()).toEqual([]);
    } finally {
      await threads.close();
    }
  });
});

test("a kernel without connection tracking is told as such, and is no error", () => {
  // Its files under /proc are what tells; an empty file system over them hides them from one process.
  const source = new URL("../../src/", import.meta.url).pathname;
  const script = `
    import { createDirectKernel } from "${source}netlink/kernel.ts";
    import { parseIP } from "${source}net/ip.ts";
    const kernel = createDirectKernel();
    console.log(JSON.stringify(await kernel.conntrack.flush([parseIP("${POD}")])));
    await kernel.close();`;
  const kept = make(entry([POD, "192.0.2.7"]));
  const answer = sh(
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs none /proc/sys/net/netfilter && exec "$0" --disable-warning=ExperimentalWarning --input-type=module -e "$1"',
    process.execPath,
    script,
  );
  expect(JSON.parse(answer)).toMatchObject({ kind: "untracked" });
  expect(entries()).toEqual(kept);
});

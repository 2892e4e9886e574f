// SPDX-License-Identifier: Apache-2.0
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { PodWiring, WiringPlan } from "../../src/cni/ports.ts";
import { formatCIDR, parseCIDR } from "../../src/net/cidr.ts";
import { parseIP } from "../../src/net/ip.ts";
import { parseMAC } from "../../src/net/mac.ts";
import { createDirectKernel, type Kernel } from "../../src/netlink/kernel.ts";
import { identifyNetns } from "../../src/netlink/netns.ts";
import { enterHost, ip, Netns, pings, planFor, rows, sysctl } from "./netlink-fixture.ts";

let host: Netns;
let kernel: Kernel;
let wiring: PodWiring;
let pods: Netns[] = [];

beforeAll(() => {
  host = enterHost("wire-host");
  kernel = createDirectKernel();
  wiring = kernel.wiring;
});

afterAll(async () => {
  await kernel.close();
  host[Symbol.dispose]();
});

afterEach(() => {
  // Deleting the namespaces takes the pairs along, but some time later.
  for (const link of hostLinks()) ip(`link delete ${link}`);
  for (const pod of pods) pod[Symbol.dispose]();
  pods = [];
});

function newPod(): Netns {
  const pod = new Netns(`wire-pod${pods.length + 1}`);
  pods.push(pod);
  return pod;
}

function hostLinks(): string[] {
  return rows("ip", "link show")
    .map((row) => String(row["ifname"]))
    .filter((name) => name.startsWith("cali"));
}

function hostRoutes(): string[] {
  return [...rows("ip", "route show proto 80"), ...rows("ip", "-6 route show proto 80")].map((row) =>
    String(row["dst"]),
  );
}

/** All that a failed or finished attachment could have left. */
function leftovers(pod: Netns): unknown {
  const inPod = pod.run(() => rows("ip", "link show").map((row) => row["ifname"]));
  return { links: hostLinks(), routes: hostRoutes(), inPod: inPod.filter((name) => name === "eth0") };
}
const NOTHING = { links: [], routes: [], inPod: [] };

test("nothing that wire() does is news to Felix, and a pod's link that somebody takes down is", async () => {
  const seen: unknown[] = [];
  const stop = kernel.routes.watch((change) => seen.push(change));
  try {
    const [a, b] = [newPod(), newPod()];
    await wiring.wire(planFor(a, 1, "v4"));
    await wiring.wire(planFor(b, 2, "dual"));
    // Duplicate address detection and the carrier's news come some time after.
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(seen).toEqual([]);
    ip(`link set ${hostLinks()[0]} down`);
    await vi.waitUntil(() => seen.length > 0, { timeout: 5000 });
    expect(seen).toContainEqual({ kind: "link" });
  } finally {
    stop();
  }
});

describe("wire()", () => {
  test.each([
    { families: "v4", probes: ["10.65.0.", "192.0.2.1"] },
    { families: "v6", probes: ["fd00:65::", "2001:db8::1"] },
    { families: "dual", probes: ["10.65.0.", "192.0.2.1", "fd00:65::", "2001:db8::1"] },
  ] as const)("lets the first packet through, host to pod, pod to host and pod to pod ($families)", async (row) => {
    const [a, b] = [newPod(), newPod()];
    const isPodAddress = (probe: string): boolean => probe.endsWith(".") || probe.endsWith("::");
    await wiring.wire(planFor(a, 1, row.families));
    for (const probe of row.probes) {
      expect(isPodAddress(probe) ? pings(`${probe}1`) : a.pings(probe), probe).toBe(true);
    }
    await wiring.wire(planFor(b, 2, row.families));
    for (const probe of row.probes.filter(isPodAddress)) {
      expect(a.pings(`${probe}2`), `${probe}2 from pod 1`).toBe(true);
      expect(b.pings(`${probe}1`), `${probe}1 from pod 2`).toBe(true);
    }
  });

  test("makes what iproute2 shows, and answers with the kernel's own ifindex, MAC and MTU", async () => {
    const pod = newPod();
    const plan = planFor(pod, 3);
    const wired = await wiring.wire(plan);
    const [hostLink] = rows("ip", `link show ${plan.hostIface}`);
    expect(hostLink).toMatchObject({
      ifindex: wired.hostIfIndex,
      address: "ee:ee:ee:ee:ee:ee",
      mtu: 1450,
      operstate: "UP",
    });
    expect(rows("ip", "route show proto 80")).toMatchObject([{ dst: "10.65.0.3", dev: plan.hostIface, scope: "link" }]);
    expect(rows("ip", "-6 route show proto 80")).toMatchObject([{ dst: "fd00:65::3", dev: plan.hostIface }]);
    pod.run(() => {
      const [link] = rows("ip", "address show eth0");
      expect(link).toMatchObject({ address: wired.contMAC, mtu: wired.mtuBytes, operstate: "UP" });
      expect(link?.["addr_info"]).toMatchObject([
        { local: "10.65.0.3", prefixlen: 32 },
        { local: "fd00:65::3", prefixlen: 128 },
        { family: "inet6", scope: "link" },
      ]);
      expect(JSON.stringify(link)).not.toContain("tentative");
      expect(rows("ip", "route show")).toMatchObject([
        { dst: "default", gateway: "169.254.1.1", dev: "eth0" },
        { dst: "169.254.1.1", dev: "eth0", scope: "link" },
      ]);
      expect(rows("ip", "-6 route show default")).toMatchObject([{ gateway: "fe80::ecee:eeff:feee:eeee" }]);
      expect(rows("ip", "neigh show nud permanent").filter((row) => row["dst"] === "169.254.1.1")).toEqual([]);
      expect(rows("ip", "link show lo")).toMatchObject([{ flags: expect.arrayContaining(["UP"]) as unknown }]);
    });
  });

  test("sets the sysctls of both sides", async () => {
    const pod = newPod();
    const plan = planFor(pod, 4);
    pod.run(() => ip("link set lo up"));
    await wiring.wire(plan);
    const name = plan.hostIface;
    const read = (paths: readonly string[]): string => paths.map(sysctl).join("");
    const v4 = ["route_localnet", "proxy_arp", "forwarding"].map((key) => `ipv4/conf/${name}/${key}`);
    expect(read([...v4, `ipv4/neigh/${name}/proxy_delay`])).toBe("1110");
    const v6 = ["proxy_ndp", "forwarding", "accept_dad", "disable_ipv6", "accept_ra"];
    expect(read(v6.map((key) => `ipv6/conf/${name}/${key}`))).toBe("11000");
    const inPod = [
      "ipv4/ip_forward",
      "ipv6/conf/all/forwarding",
      "ipv6/conf/eth0/accept_dad",
      ...["all", "default", "lo", "eth0"].map((key) => `ipv6/conf/${key}/disable_ipv6`),
    ];
    expect(pod.run(() => read(inPod))).toBe("0000000");
    expect(read(["ipv4/ip_forward", "ipv6/conf/all/forwarding"])).toBe("11");
  });

  test("switches IPv6 on where the runtime had switched it off, and forwarding on where it is allowed", async () => {
    const pod = newPod();
    pod.run(() => {
      ip("link set lo up");
      for (const key of ["all", "default"]) writeInPod(`ipv6/conf/${key}/disable_ipv6`);
    });
    await wiring.wire({ ...planFor(pod, 5), allowIPForwarding: true });
    expect(pod.pings("2001:db8::1")).toBe(true);
    expect(pod.run(() => sysctl("ipv4/ip_forward") + sysctl("ipv6/conf/all/forwarding"))).toBe("11");
    expect(pod.run(() => sysctl("ipv6/conf/lo/disable_ipv6"))).toBe("0");
  });

  test("takes MAC, MTU 0 and routes from the plan, and leaves IPv6 alone in an IPv4 pod", async () => {
    const pod = newPod();
    const contMAC = parseMAC("02:00:5e:00:00:01");
    const routes = [parseCIDR("192.0.2.0/24"), parseCIDR("fd00::/8")];
    const wired = await wiring.wire({ ...planFor(pod, 6, "v4"), contMAC, mtuBytes: 0, routes });
    expect(wired).toMatchObject({ contMAC, mtuBytes: 1500 });
    expect(pod.run(() => rows("ip", "route show").map((row) => row["dst"]))).toEqual(["169.254.1.1", "192.0.2.0/24"]);
    expect(rows("ip", "-6 route show proto 80")).toEqual([]);
  });

  test("gives further interfaces of one pod their routes, behind those of eth0 whichever came first", async () => {
    const pod = newPod();
    await wiring.wire({ ...planFor(pod, 1), contIface: "net1" });
    await wiring.wire(planFor(pod, 2));
    await wiring.wire({ ...planFor(pod, 3), contIface: "net2" });
    for (const family of ["", "-6 "]) {
      const routes = pod.run(() => rows("ip", `${family}route show default`));
      const byMetric = routes.sort((a, b) => Number(a["metric"] ?? 0) - Number(b["metric"] ?? 0));
      expect(byMetric.map((route) => route["dev"])).toEqual(["eth0", "net1", "net2"]);
      expect(new Set(byMetric.map((route) => route["metric"])).size).toBe(3);
    }
    for (const probe of ["192.0.2.1", "2001:db8::1"]) expect(pod.pings(probe), probe).toBe(true);
  });

  test("replaces the pair that a dead attachment of the same pod left", async () => {
    const pod = newPod();
    const first = await wiring.wire(planFor(pod, 7));
    const second = await wiring.wire(planFor(pod, 7));
    expect(second.hostIfIndex).not.toBe(first.hostIfIndex);
    expect(pod.pings("192.0.2.1")).toBe(true);
    expect(hostLinks()).toEqual([planFor(pod, 7).hostIface]);
  });

  test("replaces a stale host link whose other end is elsewhere", async () => {
    const [old, pod] = [newPod(), newPod()];
    await wiring.wire(planFor(old, 8));
    await wiring.wire(planFor(pod, 8));
    expect(pod.pings("192.0.2.1")).toBe(true);
    expect(old.run(() => rows("ip", "link show").map((row) => row["ifname"]))).not.toContain("eth0");
  });
});

describe("wire() that fails", () => {
  async function expectNothingLeft(plan: WiringPlan, pod: Netns, error: object): Promise<void> {
    await expect(wiring.wire(plan)).rejects.toMatchObject(error);
    expect(leftovers(pod)).toEqual(NOTHING);
  }

  test("leaves nothing when the pod's side fails at its last route", async () => {
    const pod = newPod();
    const plan = planFor(pod, 1);
    const routes = [...plan.routes, parseCIDR("0.0.0.0/0")];
    await expectNothingLeft({ ...plan, routes }, pod, { name: "WiringError", code: "Kernel" });
  });

  test("leaves nothing when the host's side fails, and says what and where", async () => {
    const pod = newPod();
    // IPv6 needs 1280 bytes, so its settings do not exist on such a link.
    const message = expect.stringMatching(/eth0.*netl-wire-pod1.*cali0*1: .*\/proc\/sys\/net\/ipv6/) as unknown;
    await expectNothingLeft({ ...planFor(pod, 1), mtuBytes: 1000 }, pod, { code: "Kernel", message });
  });

  test("leaves nothing when the pair cannot be made", async () => {
    const pod = newPod();
    const plan = { ...planFor(pod, 1), contIface: "a-name-that-is-too-long" };
    await expectNothingLeft(plan, pod, { code: "Kernel", cause: { errnoName: expect.any(String) as unknown } });
  });

  test("touches neither side when the interface exists in the pod", async () => {
    const [other, pod] = [newPod(), newPod()];
    const stale = await wiring.wire(planFor(other, 1));
    pod.run(() => ip("link add eth0 type veth peer name x0"));
    const code = "IfaceExists";
    await expect(wiring.wire(planFor(pod, 1))).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/eth0.*netl-wire-pod2/) as unknown,
    });
    await expect(wiring.wire(planFor(pod, 2))).rejects.toMatchObject({ code });
    expect(rows("ip", "link show type veth").map((row) => row["ifindex"])).toContain(stale.hostIfIndex);
    expect(other.pings("192.0.2.1")).toBe(true);
    expect(pod.run(() => rows("ip", "link show x0"))).toHaveLength(1);
  });

  test.each([
    { path: "/run/netns/netl-missing", what: "a missing file" },
    { path: "/etc/hostname/x", what: "a path through a file" },
    { path: "/etc/hostname", what: "an ordinary file" },
    { path: "/proc/self/ns/mnt", what: "a namespace of another kind" },
    { path: "/proc/thread-self/ns/net", what: "the host's own namespace" },
  ])("says NetnsGone for $what", async ({ path }) => {
    const pod = newPod();
    await expectNothingLeft({ ...planFor(pod, 1), netns: path }, pod, { name: "WiringError", code: "NetnsGone" });
  });
});

describe("unwire()", () => {
  test("deletes only what agrees in name and ifindex", async () => {
    const pod = newPod();
    const { hostIface } = planFor(pod, 1);
    const { hostIfIndex } = await wiring.wire(planFor(pod, 1));
    expect(await wiring.unwire({ hostIface: "cali00000000002", hostIfIndex })).toBe(false);
    expect(await wiring.unwire({ hostIface, hostIfIndex: hostIfIndex + 1000 })).toBe(false);
    expect(hostLinks()).toEqual([hostIface]);
    expect(await wiring.unwire({ hostIface, hostIfIndex })).toBe(true);
    expect(await wiring.unwire({ hostIface, hostIfIndex })).toBe(false);
    expect(leftovers(pod)).toEqual(NOTHING);
  });

  test("deletes 20 pairs that wait together, and leaves their neighbours", async () => {
    const wired = [];
    for (let n = 1; n <= 21; n++) {
      const plan = planFor(newPod(), n);
      wired.push({ hostIface: plan.hostIface, hostIfIndex: (await wiring.wire(plan)).hostIfIndex });
    }
    const [kept, ...rest] = wired;
    const missing = { hostIface: "cali00000000099", hostIfIndex: 9999 };
    const outcomes = await Promise.all([...rest, missing].map((link) => wiring.unwire(link)));
    expect(outcomes).toEqual([...rest.map(() => true), false]);
    expect(hostLinks()).toEqual([kept?.hostIface]);
    expect(hostRoutes()).toHaveLength(2);
  });
});

describe("unwireFromNetns()", () => {
  test("deletes the pair of exactly this namespace and these names", async () => {
    const [pod, other] = [newPod(), newPod()];
    const { contIface, hostIface } = planFor(pod, 1);
    await wiring.wire(planFor(pod, 1));
    await wiring.wire(planFor(other, 2));
    const identity = await wiring.identifyNetns(pod.path);
    const target = { netns: pod.path, identity, contIface, hostIface };
    expect(await wiring.unwireFromNetns({ ...target, identity: identifyNetns(other.path) })).toBe(false);
    expect(await wiring.unwireFromNetns({ ...target, hostIface: planFor(other, 2).hostIface })).toBe(false);
    expect(await wiring.unwireFromNetns({ ...target, contIface: "eth1" })).toBe(false);
    expect(await wiring.unwireFromNetns({ ...target, netns: "/run/netns/netl-missing" })).toBe(false);
    expect(hostLinks()).toHaveLength(2);
    expect(await wiring.unwireFromNetns(target)).toBe(true);
    expect(await wiring.unwireFromNetns(target)).toBe(false);
    expect(hostLinks()).toEqual([planFor(other, 2).hostIface]);
  });
});

describe("inspect()", () => {
  async function wired(n: number) {
    const pod = newPod();
    const plan = planFor(pod, n);
    const { hostIfIndex } = await wiring.wire(plan);
    const { netns, contIface, hostIface, ips } = plan;
    const look = () => wiring.inspect({ netns, contIface, hostIface, ips });
    return { pod, plan, hostIfIndex, look, before: await look() };
  }

  /** What of the kernel a call could have written. */
  function state(pod: Netns): string {
    const all = ["link show", "address show", "route show table all", "-6 route show table all"];
    const read = (): string => all.map((what) => ip(what)).join("");
    // Lifetimes and times since the last use run by themselves.
    return (read() + pod.run(read)).replaceAll(/(expires|used|age) \S+/g, "");
  }

  test("changes nothing", async () => {
    const { pod, plan, look } = await wired(1);
    const before = state(pod);
    await look();
    await wiring.inspect({ ...plan, contIface: "eth7", hostIface: "cali0000000dead" });
    expect(state(pod)).toBe(before);
  });

  test("tells MAC, MTU and state of both ends as they are now", async () => {
    const { pod, plan, look } = await wired(2);
    ip(`link set ${plan.hostIface} mtu 1300 address ee:ee:ee:ee:ee:ef`);
    pod.run(() => ip("link set eth0 mtu 1310 address 02:00:5e:00:00:09"));
    pod.run(() => ip("link set eth0 down"));
    const { hostLink, contLink } = await look();
    expect(hostLink).toMatchObject({ mac: "ee:ee:ee:ee:ee:ef", mtuBytes: 1300, isUp: true });
    expect(contLink).toMatchObject({ mac: "02:00:5e:00:00:09", mtuBytes: 1310, isUp: false });
  });

  test("tells the pod's addresses and routes, also those that somebody added, and not those that are gone", async () => {
    const { pod, look, before } = await wired(3);
    pod.run(() => {
      ip("addr del 10.65.0.3/32 dev eth0");
      ip("addr add 10.65.0.33/31 dev eth0 noprefixroute");
      ip("-6 route del default");
      ip("link add extra type bridge");
      ip("link set extra up");
      ip("route add 198.51.100.0/24 dev extra");
      ip("route add blackhole 198.51.101.0/24");
    });
    const { contAddrs, contRoutes } = await look();
    expect(contAddrs).not.toContainEqual({ ip: parseIP("10.65.0.3"), prefixLength: 32 });
    expect(contAddrs).toContainEqual({ ip: parseIP("10.65.0.33"), prefixLength: 31 });
    const dev = { dst: parseCIDR("198.51.100.0/24"), dev: "extra", protocol: 3, scope: "link" };
    expect(contRoutes).toContainEqual(dev);
    const described = (routes: typeof contRoutes) => routes.map(({ dst }) => formatCIDR(dst));
    expect(described(before.contRoutes).filter((dst) => dst === "::/0")).toHaveLength(1);
    expect(described(contRoutes)).not.toContain("::/0");
    expect(described(contRoutes)).not.toContain("198.51.101.0/24");
  });

  test("tells the route that the host takes to an address, whoever made it", async () => {
    const { plan, look } = await wired(4);
    ip("route replace 10.65.0.4/32 dev up0 proto static");
    ip("-6 route del fd00:65::4/128");
    const [v4, v6] = (await look()).hostRoutes;
    expect(v4).toEqual({
      ip: plan.ips[0],
      route: { dst: parseCIDR("10.65.0.4/32"), dev: "up0", protocol: 4, scope: "link" },
    });
    // What is left is the host's default route.
    expect(v6?.route).toMatchObject({ dst: parseCIDR("::/0"), dev: "up0", gateway: parseIP("2001:db8::fe") });
  });

  test("tells no route where the way ends at a block's blackhole", async () => {
    const { plan, look } = await wired(5);
    for (const dst of ["10.65.0.5/32", "-6 fd00:65::5/128"]) {
      const [family, cidr] = dst.startsWith("-6 ") ? ["-6 ", dst.slice(3)] : ["", dst];
      ip(`${family}route del ${cidr}`);
    }
    ip("route add blackhole 10.65.0.0/26 proto 80");
    ip("-6 route add blackhole fd00:65::/122 proto 80");
    try {
      expect((await look()).hostRoutes).toEqual(plan.ips.map((address) => ({ ip: address })));
    } finally {
      ip("route del blackhole 10.65.0.0/26 proto 80");
      ip("-6 route del blackhole fd00:65::/122 proto 80");
    }
  });

  test("tells each setting that wire() writes, with what it should be", async () => {
    const { plan, look, before } = await wired(6);
    expect(before.hostSysctls).toHaveLength(9);
    expect(before.hostSysctls.filter(({ actual, expected }) => actual !== expected)).toEqual([]);
    const path = `net/ipv4/conf/${plan.hostIface}/proxy_arp`;
    ip(`netns exec ${host.name} sysctl -q -w ${path}=0`);
    const changed = (await look()).hostSysctls.filter(({ actual, expected }) => actual !== expected);
    expect(changed).toEqual([{ path, expected: "1", actual: "0" }]);
  });

  test("tells the pod's end without the host's, and the host's without the pod's", async () => {
    const { pod, plan, hostIfIndex } = await wired(7);
    const query = { netns: pod.path, contIface: "eth0", hostIface: plan.hostIface, ips: plan.ips };
    const withoutHost = await wiring.inspect({ ...query, hostIface: "cali0000000dead" });
    expect(withoutHost).not.toHaveProperty("hostLink");
    expect(withoutHost.contLink).toMatchObject({ peerIfIndex: hostIfIndex });
    const withoutPod = await wiring.inspect({ ...query, contIface: "eth7" });
    expect(withoutPod).not.toHaveProperty("contLink");
    expect(withoutPod.contAddrs).toEqual([]);
    expect(withoutPod.hostLink).toMatchObject({ ifIndex: hostIfIndex });
  });
});

function writeInPod(path: string): void {
  // Through a child, as a runtime does it.
  ip(`netns exec ${pods[0]?.name ?? ""} sysctl -q -w net.${path.replaceAll("/", ".")}=1`);
}

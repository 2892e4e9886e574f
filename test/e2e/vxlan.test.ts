// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FAMILIES } from "../../src/lab/families.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { LabPod } from "../../src/lab/types.ts";
import { ok } from "./support/chain.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/**
 * Four nodes in two subnets with a router between, whose pools change their encapsulation under running pods: VXLAN always,
 * across subnets, plain. Who reaches whom is tried in each mode, and what the wire carries is captured.
 */

const SCRIPT = join(ROOT, "src/main/lab.ts");
const POOLS = ["default-ipv4-ippool", "default-ipv6-ippool"];
const DEVICES = { 4: "vxlan.calico", 6: "vxlan-v6.calico" } as const;
const NODE_PREFIXES = { near: { 4: "172.30.0.1", 6: "fd00:172:30::1" }, far: { 4: "172.31.0.1", 6: "fd00:172:31::1" } };
/** They move to the other subnet; the laboratory's own machine is the router. */
const FAR_NODES = ["node-3", "node-4"];
/** A machine beyond the cluster, behind the router. */
const OUTSIDE = { 4: "203.0.113.9", 6: "2001:db8:9::9" } as const;
const FAMILY = [4, 6] as const;
const SETTLE_MS = 30_000;

let lab: RemoteLab;
let pods: readonly LabPod[];
let captures = 0;

beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: SCRIPT, nodes: 4, pods: 4, families: FAMILIES.dual });
  pods = await lab.listPods();
  await moveFarNodes();
});
afterAll(() => lab.stop());

const until = (ask: () => Promise<boolean>, what: string): Promise<void> => waitUntil(what, ask, SETTLE_MS);
const on = (node: string, ...argv: string[]): Promise<string> => ok(lab.exec(node, argv));

async function setMode(mode: "Always" | "CrossSubnet" | "Never"): Promise<void> {
  const patch = JSON.stringify({ spec: { vxlanMode: mode } });
  for (const pool of POOLS) await ok(lab.kubectl(["patch", "ippool", pool, "--type=merge", "-p", patch]));
}

function podOf(node: string): LabPod {
  const pod = pods.find((candidate) => candidate.node === node);
  if (pod === undefined) throw new Error(`No pod on ${node}`);
  return pod;
}

function ipOf(pod: LabPod, family: 4 | 6): string {
  return pod.ips.find((ip) => ip.includes(":") === (family === 6)) ?? "";
}

function nodeIP(node: string, family: 4 | 6): string {
  return NODE_PREFIXES[FAR_NODES.includes(node) ? "far" : "near"][family] + node.slice("node-".length);
}

/** Gives them addresses of the other subnet and of that alone; node-3 becomes 172.31.0.13. */
async function moveFarNodes(): Promise<void> {
  const [gateway4, gateway6] = ["172.31.0.1", "fd00:172:31::1"];
  const router = `ip addr add ${gateway4}/24 dev segment; ip addr add ${gateway6}/64 dev segment nodad
    ip addr add ${OUTSIDE[4]}/32 dev lo; ip addr add ${OUTSIDE[6]}/128 dev lo
    echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
    echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects; echo 0 > /proc/sys/net/ipv4/conf/segment/send_redirects`;
  await on("lab", "sh", "-euc", router);
  for (const node of FAR_NODES) {
    const [ip4, ip6] = [nodeIP(node, 4), nodeIP(node, 6)];
    const [old4, old6] = FAMILY.map((family) => NODE_PREFIXES.near[family] + node.slice("node-".length));
    const script = `ip addr add ${ip4}/24 dev eth0; ip addr add ${ip6}/64 dev eth0 nodad
      ip route replace default via ${gateway4}; ip -6 route replace default via ${gateway6}
      ip addr del ${old4}/24 dev eth0; ip addr del ${old6}/64 dev eth0`;
    await on(node, "sh", "-euc", script);
    const addresses = [ip4, ip6].map((address) => ({ type: "InternalIP", address }));
    const patch = JSON.stringify({ status: { addresses } });
    await ok(lab.kubectl(["patch", "node", node, "--subresource=status", "--type=merge", "-p", patch]));
  }
}

/** @param from a pod or a node */
async function pings(from: string, ip: string, bytes = 56): Promise<boolean> {
  const argv = ["ping", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", String(bytes), "-q", ip];
  const { exitCode, stdout } = await lab.exec(from, argv);
  return exitCode === 0 && stdout.includes(" 0% packet loss");
}

type Pair = (from: LabPod, to: LabPod) => boolean;

const areNear: Pair = (from, to) => FAR_NODES.includes(from.node) === FAR_NODES.includes(to.node);

/** Pod to pod, pod to node, node to pod, both families: who does not reach whom. */
async function silentPairs(isMeant: Pair): Promise<readonly string[]> {
  const tried = pods.flatMap((from) =>
    pods
      .filter((to) => isMeant(from, to))
      .flatMap((to) =>
        FAMILY.flatMap((family) => [
          ...(from === to ? [] : [[from.name, to.name, ipOf(to, family)] as const]),
          [from.name, to.node, nodeIP(to.node, family)] as const,
          [from.node, to.name, ipOf(to, family)] as const,
        ]),
      ),
  );
  const silent: string[] = [];
  // A few at a time: a hundred programs at once would only wait for each other.
  for (let start = 0; start < tried.length; start += 12) {
    const some = tried.slice(start, start + 12);
    const answers = await Promise.all(some.map(([from, , ip]) => pings(from, ip)));
    silent.push(...some.filter((_, i) => !answers[i]).map(([from, to, ip]) => `${from} to ${to} (${ip})`));
  }
  return silent;
}

async function untilAllReach(isMeant: Pair = () => true): Promise<void> {
  let silent: readonly string[] = [];
  const ask = async (): Promise<boolean> => {
    silent = await silentPairs(isMeant);
    return silent.length === 0;
  };
  await until(ask, "all pods and nodes").catch((error: unknown) => {
    throw new Error(`Silent: ${silent.join(", ")}`, { cause: error });
  });
}

/** What tcpdump prints of a link's first packets of that filter; they are asked for until they have come. */
async function firstPackets(
  machine: string,
  { link, filter, count }: { readonly link: string; readonly filter: string; readonly count: number },
  provoke: () => Promise<unknown>,
): Promise<string> {
  const file = `/tmp/capture-${captures++}`;
  // In the background, so that what waits is who provokes them.
  const begin = `setsid timeout 20 tcpdump -l -n -i ${link} -c ${count} '${filter}' > ${file} 2> ${file}.err < /dev/null &
    until grep -q listening ${file}.err; do sleep 0.05; done`;
  await on(machine, "bash", "-c", begin);
  let text = "";
  await until(async () => {
    await provoke();
    text = await on(machine, "cat", file);
    return text.trim().split("\n").length >= count;
  }, `${filter} on ${link} of ${machine}`);
  return text;
}

/** What eth0 of a node carries while its pod pings another's: the outer packets. */
async function capture(from: LabPod, to: LabPod, family: 4 | 6): Promise<"vxlan" | "plain" | "neither"> {
  const ip = ipOf(to, family);
  const filter = `udp port 4789 or host ${ip}`;
  const text = await firstPackets(from.node, { link: "eth0", filter, count: 4 }, () => pings(from.name, ip));
  if (text.includes("VXLAN, flags [I] (0x08), vni 4096")) return "vxlan";
  return text.includes("echo request") ? "plain" : "neither";
}

/** Under whose address the machine outside hears a pod. */
async function sourceSeenOutside(pod: LabPod, family: 4 | 6): Promise<string> {
  const filter = `${family === 4 ? "icmp" : "icmp6"} and dst host ${OUTSIDE[family]}`;
  const ask = (): Promise<boolean> => pings(pod.name, OUTSIDE[family]);
  const text = await firstPackets("lab", { link: "segment", filter, count: 1 }, ask);
  return / IP6? (\S+) > /.exec(text)?.[1] ?? "";
}

/** The one with NAT, the other without, as the pools are left by the test that changes this. */
async function expectOutside(node: string): Promise<void> {
  const pod = podOf(node);
  await on("lab", "ip", "route", "replace", ipOf(pod, 6), "via", nodeIP(node, 6));
  await until(async () => (await sourceSeenOutside(pod, 4)) === nodeIP(node, 4), "the node's address outside");
  await until(async () => (await sourceSeenOutside(pod, 6)) === ipOf(pod, 6), "the pod's address outside");
  for (const family of FAMILY) expect(await pings(pod.name, OUTSIDE[family])).toBe(true);
  await on("lab", "ip", "route", "delete", ipOf(pod, 6));
}

async function hasVXLAN(node: string): Promise<boolean> {
  const links = await on(node, "ip", "-o", "link", "show", "type", "vxlan");
  const routes = await on(node, "sh", "-c", "ip -4 route show proto 80; ip -6 route show proto 80");
  return Object.values(DEVICES).every((device) => links.includes(device) && routes.includes(`dev ${device}`));
}

describe("VXLAN always", () => {
  beforeAll(async () => {
    await setMode("Always");
    for (const node of lab.nodes) await until(() => hasVXLAN(node), `VXLAN on ${node}`);
  });

  test("pods reach each other in both families, and the wire carries VXLAN", async () => {
    await untilAllReach();
    for (const to of ["node-2", "node-3"])
      for (const family of FAMILY) expect(await capture(podOf("node-1"), podOf(to), family)).toBe("vxlan");
  });

  test.each(FAMILY)(
    "IPv%i: a pod reaches what is outside, as its node where its pool has natOutgoing, else as itself",
    async (family) => {
      const pod = podOf("node-3");
      const [pool = ""] = POOLS.filter((name) => name.includes(`ipv${family}`));
      await on("lab", "ip", "route", "replace", ipOf(pod, family), "via", nodeIP(pod.node, family));
      for (const natOutgoing of [true, false, family === 4]) {
        const patch = JSON.stringify({ spec: { natOutgoing } });
        await ok(lab.kubectl(["patch", "ippool", pool, "--type=merge", "-p", patch]));
        const shown = natOutgoing ? nodeIP(pod.node, family) : ipOf(pod, family);
        await until(async () => (await sourceSeenOutside(pod, family)) === shown, `${shown} seen outside`);
        expect(await pings(pod.name, OUTSIDE[family])).toBe(true);
      }
      await on("lab", "ip", "route", "delete", ipOf(pod, family));
    },
  );

  test("tunnel addresses are in the annotations, and in IPAM under Calico's handles", async () => {
    for (const node of lab.nodes) {
      for (const [family, handle, type] of [
        [4, "vxlan-tunnel-addr", "vxlanTunnelAddress"],
        [6, "vxlan-v6-tunnel-addr", "vxlanV6TunnelAddress"],
      ] as const) {
        const path = `{.metadata.annotations.projectcalico\\.org/IPv${family}VXLANTunnelAddr}`;
        const address = await ok(lab.kubectl(["get", "node", node, "-o", `jsonpath=${path}`]));
        const length = family === 4 ? 32 : 128;
        const shown = await on(node, "ip", "-o", "addr", "show", "dev", DEVICES[family], "scope", "global");
        expect(shown).toContain(`${address}/${length}`);
        const handles = await ok(
          lab.kubectl(["get", "ipamhandles", `${handle}-${node}`, "-o", "jsonpath={.spec.block}"]),
        );
        expect(handles).toMatch(/:1}$/);
        const blocks = await ok(lab.kubectl(["get", "ipamblocks", "-o", "json"]));
        expect(blocks).toContain(`"type": "${type}"`);
      }
    }
  });

  test("MTU: the devices' and new pods' leave room; a full packet of a new pod passes", async () => {
    const pod = await lab.addPod({ name: "small", node: "node-1" });
    expect(await on(pod.name, "ip", "-o", "link", "show", "eth0")).toContain(" mtu 1430 ");
    expect(await on("node-1", "ip", "-o", "link", "show", DEVICES[4])).toContain(" mtu 1450 ");
    expect(await pings(pod.name, ipOf(podOf("node-2"), 4), 1430 - 28)).toBe(true);
    expect(await pings(pod.name, ipOf(podOf("node-2"), 6), 1430 - 48)).toBe(true);
    await lab.delPod(pod.name);
  });

  test("what somebody deletes comes back", async () => {
    await on(
      "node-1",
      "bash",
      "-c",
      "ip neigh flush dev vxlan.calico nud permanent; ip -6 neigh flush dev vxlan-v6.calico nud permanent",
    );
    await untilAllReach();
    await on("node-2", "ip", "link", "delete", "vxlan.calico");
    await until(() => hasVXLAN("node-2"), "the device");
    await untilAllReach();
    expect(await lab.logs("node-2")).toContain("removed or changed by another program; restored");
  });

  test("an agent that starts again loses no packet and makes nothing anew", async () => {
    const show = ["ip", "-o", "link", "show", DEVICES[4]];
    const before = await on("node-1", ...show);
    const argv = ["ping", "-i", "0.05", "-w", "6", "-q", ipOf(podOf("node-2"), 4)];
    const running = lab.exec(podOf("node-1").name, argv);
    await lab.killAgent("node-1", "SIGKILL");
    await lab.startAgent("node-1");
    expect((await running).stdout).toContain(" 0% packet loss");
    expect(await on("node-1", ...show)).toBe(before);
  });
});

describe("VXLAN across subnets", () => {
  beforeAll(async () => {
    await setMode("CrossSubnet");
    await until(
      async () => (await on("node-1", "ip", "-4", "route", "show", "proto", "80")).includes("via 172.30.0.12 dev eth0"),
      "a plain route to node-2",
    );
  });

  test("plain inside the subnet, VXLAN beyond it, and everybody reaches everybody", async () => {
    await untilAllReach();
    for (const [from, to, way] of [
      ["node-1", "node-2", "plain"],
      ["node-3", "node-4", "plain"],
      ["node-1", "node-3", "vxlan"],
      ["node-4", "node-2", "vxlan"],
    ] as const) {
      for (const family of FAMILY)
        expect(await capture(podOf(from), podOf(to), family), `${from} to ${to}, IPv${family}`).toBe(way);
    }
  });

  test("pods reach what is outside", () => expectOutside("node-1"));
});

describe("VXLAN never", () => {
  test("devices, entries and tunnel addresses go, and pods reach each other plainly", async () => {
    await setMode("Never");
    for (const node of lab.nodes) {
      await until(
        async () => (await on(node, "ip", "-o", "link", "show", "type", "vxlan")) === "",
        `no VXLAN on ${node}`,
      );
    }
    await until(
      async () => !(await ok(lab.kubectl(["get", "ipamhandles", "-o", "name"]))).includes("tunnel-addr"),
      "no tunnel handles",
    );
    const annotations = await ok(lab.kubectl(["get", "nodes", "-o", "jsonpath={.items[*].metadata.annotations}"]));
    expect(annotations).not.toContain("VXLANTunnelAddr");
    // Beyond the subnet plain packets need a router that knows the blocks, and so BGP.
    await untilAllReach(areNear);
    for (const family of FAMILY) expect(await capture(podOf("node-1"), podOf("node-2"), family)).toBe("plain");
  });

  test("pods reach what is outside", () => expectOutside("node-4"));
});

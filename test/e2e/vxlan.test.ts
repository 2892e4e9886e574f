// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FAMILIES } from "../../src/lab/families.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { LabPod } from "../../src/lab/types.ts";
import { ok } from "./support/chain.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** Pools change their encapsulation under running pods: plain, VXLAN always, VXLAN across subnets. What the wire carries is captured. */

const SCRIPT = join(ROOT, "src/main/lab.ts");
const POOLS = ["default-ipv4-ippool", "default-ipv6-ippool"];
const DEVICES = { 4: "vxlan.calico", 6: "vxlan-v6.calico" } as const;
/** node-3 moves here: another subnet, behind the segment as its router. */
const FAR = { node: "172.31.0.13", router: "172.31.0.1" };
const SETTLE_MS = 15_000;

let lab: RemoteLab;
let pods: readonly LabPod[];

beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: SCRIPT, nodes: 3, pods: 3, families: FAMILIES.dual });
  pods = await lab.listPods();
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

async function pings(from: LabPod, ip: string, bytes = 56): Promise<boolean> {
  const argv = ["ping", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", String(bytes), "-q", ip];
  const { exitCode, stdout } = await lab.exec(from.name, argv);
  return exitCode === 0 && stdout.includes(" 0% packet loss");
}

async function allReach(): Promise<readonly string[]> {
  const silent: string[] = [];
  for (const from of pods) {
    for (const to of pods) {
      if (from === to) continue;
      for (const family of [4, 6] as const) {
        if (!(await pings(from, ipOf(to, family)))) silent.push(`${from.node} to ${to.node} IPv${family}`);
      }
    }
  }
  return silent;
}

/** What eth0 of the first node carries while its pod pings another: the outer packets. */
async function capture(from: LabPod, to: LabPod, family: 4 | 6): Promise<"vxlan" | "plain" | "nothing"> {
  const script = `
    timeout 5 tcpdump -l -n -i eth0 -c 4 'udp port 4789 or icmp or (icmp6 and (ip6[40] == 128 or ip6[40] == 129))' 2>/dev/null > /tmp/capture-$$ &
    sleep 0.7
    echo ready
    wait
    cat /tmp/capture-$$; rm /tmp/capture-$$`;
  const seen = lab.exec(from.node, ["bash", "-c", script]);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await pings(from, ipOf(to, family));
  const { stdout } = await seen;
  if (stdout.includes("VXLAN, flags [I] (0x08), vni 4096")) return "vxlan";
  return stdout.includes("echo request") ? "plain" : "nothing";
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
    expect(await allReach()).toEqual([]);
    const [from, to] = [podOf("node-1"), podOf("node-2")];
    expect(await capture(from, to, 4)).toBe("vxlan");
    expect(await capture(from, to, 6)).toBe("vxlan");
  });

  test("nodes reach pods of other nodes from their tunnel addresses, and are answered", async () => {
    for (const family of [4, 6] as const)
      await on("node-1", "ping", "-c", "1", "-W", "2", ipOf(podOf("node-2"), family));
  });

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
    expect(await pings(pod, ipOf(podOf("node-2"), 4), 1430 - 28)).toBe(true);
    expect(await pings(pod, ipOf(podOf("node-2"), 6), 1430 - 48)).toBe(true);
    await lab.delPod(pod.name);
  });

  test("what somebody deletes comes back", async () => {
    await on(
      "node-1",
      "bash",
      "-c",
      "ip neigh flush dev vxlan.calico nud permanent; ip -6 neigh flush dev vxlan-v6.calico nud permanent",
    );
    await until(async () => (await allReach()).length === 0, "neighbours");
    await on("node-2", "ip", "link", "delete", "vxlan.calico");
    await until(() => hasVXLAN("node-2"), "the device");
    expect(await allReach()).toEqual([]);
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
    await on("lab", "sh", "-euc", `ip addr add ${FAR.router}/24 dev segment; echo 1 > /proc/sys/net/ipv4/ip_forward`);
    await on(
      "node-3",
      "sh",
      "-euc",
      `ip addr add ${FAR.node}/24 dev eth0; ip route add 172.31.0.0/24 dev eth0 2>/dev/null || true`,
    );
    const status = {
      addresses: [
        { type: "InternalIP", address: FAR.node },
        { type: "InternalIP", address: "fd00:172:30::13" },
      ],
    };
    const patch = JSON.stringify({ status });
    await ok(lab.kubectl(["patch", "node", "node-3", "--subresource=status", "--type=merge", "-p", patch]));
    await setMode("CrossSubnet");
    await until(
      async () => (await on("node-1", "ip", "-4", "route", "show", "proto", "80")).includes("via 172.30.0.12 dev eth0"),
      "a plain route to node-2",
    );
  });

  test("plain inside the subnet, VXLAN beyond it, and everybody reaches everybody", async () => {
    await until(async () => (await allReach()).length === 0, "all pods");
    expect(await capture(podOf("node-1"), podOf("node-2"), 4)).toBe("plain");
    expect(await capture(podOf("node-1"), podOf("node-2"), 6)).toBe("plain");
    expect(await capture(podOf("node-1"), podOf("node-3"), 4)).toBe("vxlan");
    expect(await capture(podOf("node-3"), podOf("node-1"), 4)).toBe("vxlan");
  });
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
    const [from, to] = [podOf("node-1"), podOf("node-2")];
    await until(() => pings(from, ipOf(to, 4)), "a plain ping");
    expect(await capture(from, to, 4)).toBe("plain");
  });
});

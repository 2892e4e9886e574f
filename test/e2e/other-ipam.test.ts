// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { handleIDOf } from "../../src/cni/iface-name.ts";
import { FAMILIES } from "../../src/lab/families.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import { attachChain, type ChainedPod, type ChainRequest, DUAL, ok, requirePrograms } from "./support/chain.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** gingham-ipam under Debian's ptp, bridge and macvlan, and Debian's host-local and static under gingham. */

const POOLS = { bridged: "10.77.0.0/24", bridged6: "fd00:77::/120", segment: "10.78.0.0/24" };

let lab: RemoteLab;
let far: ChainedPod;
beforeAll(async () => {
  const plugins = ["ptp", "bridge", "macvlan", "host-local", "static"];
  await requirePrograms(
    Object.fromEntries(plugins.map((name) => [`/usr/lib/cni/${name}`, "containernetworking-plugins"])),
  );
  // The laboratory's agents have this process's environment.
  vi.stubEnv("FELIX_ROUTESOURCE", "WorkloadIPs");
  lab = await startLab({
    root: ROOT,
    script: join(ROOT, "src/main/lab.ts"),
    nodes: 2,
    pods: 0,
    families: FAMILIES.dual,
  });
  vi.unstubAllEnvs();
  for (const [name, cidr] of Object.entries(POOLS)) await createPool(name, cidr);
  far = await attachChain(lab, { node: "node-2", name: "far", plugins: [DUAL] });
});
afterAll(() => lab.stop());

async function createPool(name: string, cidr: string): Promise<void> {
  // Of no node: only who names it gets addresses of it.
  const spec = {
    cidr,
    blockSize: cidr.includes(":") ? 124 : 28,
    ipipMode: "Never",
    vxlanMode: "Never",
    nodeSelector: "!all()",
  };
  const pool = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name }, spec };
  await ok(lab.kubectl(["create", "-f", "-"], JSON.stringify(pool)));
}

async function reaches(from: ChainedPod, ip: string): Promise<void> {
  await waitUntil(
    `a ping to ${ip}`,
    async () => (await from.exec("ping", "-c", "1", "-W", "1", ip)).exitCode === 0,
    5000,
  );
}

async function allReach(pods: readonly ChainedPod[]): Promise<void> {
  for (const from of pods) {
    for (const to of pods) {
      const families = new Set(from.ips.map((ip) => ip.includes(":")));
      for (const ip of to.ips) if (to !== from && families.has(ip.includes(":"))) await reaches(from, ip);
    }
  }
}

interface Attached extends ChainedPod {
  readonly handleID: string;
}

async function attach(request: ChainRequest): Promise<Attached> {
  const { network = "k8s-pod-network", name: containerID, node: nodeName } = request;
  const handleID = handleIDOf({ network, containerID, ifName: "eth0", nodeName });
  return { ...(await attachChain(lab, request)), handleID };
}

async function handles(): Promise<readonly string[]> {
  const text = await ok(lab.kubectl(["get", "ipamhandles", "-o", "jsonpath={.items[*].spec.handleID}"]));
  return text.split(" ");
}

/** Removes the pods, whose addresses are ours. */
async function remove(pods: readonly Attached[]): Promise<void> {
  const ids = pods.map(({ handleID }) => handleID);
  expect(await handles()).toEqual(expect.arrayContaining(ids));
  for (const pod of pods) await pod.del();
  const left = await handles();
  expect(ids.filter((id) => left.includes(id))).toEqual([]);
}

describe("gingham-ipam under", () => {
  const OURS = { type: "gingham-ipam", assign_ipv6: "true" };

  test("ptp: pods reach those of gingham, on their node and on another, in both families", async () => {
    const plugins = [{ type: "ptp", ipam: OURS }];
    const near = await attach({ node: "node-1", name: "near", plugins: [DUAL] });
    const pods = [
      await attach({ node: "node-1", name: "ptp-a", plugins }),
      await attach({ node: "node-1", name: "ptp-b", plugins }),
      await attach({ node: "node-2", name: "ptp-c", plugins }),
    ];
    expect(pods[0]?.ips).toHaveLength(2);
    await allReach([near, far, ...pods]);
    for (const pod of pods) await pod.check();
    await remove([...pods, near]);
  });

  test("bridge: pods of a bridge reach each other and another node, whose packets the block's blackhole does not take", async () => {
    const ipam = { ...OURS, ipv4_pools: ["bridged"], ipv6_pools: ["bridged6"] };
    const plugins = [{ type: "bridge", bridge: "cni0", isDefaultGateway: true, ipam }];
    const request = { node: "node-1", plugins, network: "bridged" };
    const pods = [await attach({ ...request, name: "br-a" }), await attach({ ...request, name: "br-b" })];
    await allReach([far, ...pods]);
    // The next agent knows nothing of the bridge, and what it reads must be enough.
    await lab.killAgent("node-1", "SIGKILL");
    await lab.startAgent("node-1");
    pods.push(await attach({ ...request, name: "br-c" }));
    await allReach([far, ...pods]);
    for (const pod of pods) await pod.check();
    const routes = await ok(lab.exec("node-1", ["ip", "route", "show", "root", POOLS.bridged]));
    expect(routes.trim().split("\n")).toEqual([expect.stringContaining("dev cni0 proto kernel")]);
    await remove(pods);
    // The network's own address, the gateway and the broadcast address stay with the node.
    const text = await ok(lab.kubectl(["get", "ipamhandles", "-o", "jsonpath={.items[*].spec.block}"]));
    expect(text).toMatch(/\{"10\.77\.0\.\d+\/28":3\}/);
  });

  test("macvlan: pods on two nodes reach each other on the segment that the configuration describes", async () => {
    const ipam = { type: "gingham-ipam", ipv4_pools: ["segment"], subnet: POOLS.segment, gateway: "10.78.0.1" };
    const plugins = [{ type: "macvlan", master: "eth0", mode: "bridge", ipam }];
    const pods = [
      await attach({ node: "node-1", name: "mac-a", plugins, network: "segment" }),
      await attach({ node: "node-1", name: "mac-b", plugins, network: "segment" }),
      await attach({ node: "node-2", name: "mac-c", plugins, network: "segment" }),
    ];
    expect(pods[0]?.result.ips).toMatchObject([
      { address: expect.stringMatching(/\/24$/) as string, gateway: "10.78.0.1" },
    ]);
    await allReach(pods);
    for (const pod of pods) await pod.check();
    await remove(pods);
  });
});

describe("under gingham", () => {
  const onNode = (...argv: string[]): Promise<string> => ok(lab.exec("node-1", argv));

  test("host-local gives addresses of the node's own network, which other nodes reach, and takes them back", async () => {
    for (const [i, node] of lab.nodes.entries()) {
      const podCIDRs = [`10.79.${i + 1}.0/24`, `fd00:79:${i + 1}::/64`];
      await ok(lab.kubectl(["patch", "node", node, "--type=merge", "-p", JSON.stringify({ spec: { podCIDRs } })]));
    }
    const ranges = [[{ subnet: "usePodCidr" }], [{ subnet: "usePodCidrIPv6" }]];
    const plugins = [{ type: "gingham", ipam: { type: "host-local", ranges } }];
    const request = { node: "node-1", plugins, network: "podcidr" };
    const pods = [
      await attach({ ...request, name: "hl-a" }),
      await attach({ ...request, name: "hl-b" }),
      await attach({ ...request, name: "hl-c", node: "node-2" }),
    ];
    expect(pods[0]?.result.ips).toMatchObject([
      { address: expect.stringMatching(/^10\.79\.1\.\d+\/32$/) as string },
      { address: expect.stringMatching(/^fd00:79:1::.*\/128$/) as string },
    ]);
    await allReach(pods);
    for (const pod of pods) await pod.check();
    const reserved = async () => (await onNode("ls", "/var/lib/cni/networks/podcidr")).split("\n");
    expect(await reserved()).toContain(pods[0]?.ips[0]);
    const ids = pods.map(({ handleID }) => handleID);
    const ours = await handles();
    expect(ids.filter((id) => ours.includes(id))).toEqual([]);
    for (const pod of pods) await pod.del();
    expect((await reserved()).filter((file) => /^(10|fd00)/.test(file))).toEqual([]);
  });

  test("static gives the address that the configuration has", async () => {
    const addresses = [{ address: "10.80.0.5/24", gateway: "10.80.0.1" }];
    const ipam = { type: "static", addresses, routes: [{ dst: "0.0.0.0/0", gw: "10.80.0.1" }] };
    const pod = await attachChain(lab, { node: "node-1", name: "static", plugins: [{ type: "gingham", ipam }] });
    expect(pod.result.ips).toMatchObject([{ address: "10.80.0.5/32" }]);
    await onNode("ping", "-c", "1", "-W", "1", "10.80.0.5");
    await pod.check();
    await pod.del();
  });

  test("a plugin that is missing, or refuses, is named, and nothing stays", async () => {
    const before = await onNode("ip", "-o", "link");
    const refused = (ipam: object): Promise<unknown> =>
      attachChain(lab, { node: "node-1", name: "bad", plugins: [{ type: "gingham", ipam }] });
    await expect(refused({ type: "nobodys-ipam" })).rejects.toThrow(/nobodys-ipam is in no folder of CNI_PATH/);
    await expect(refused({ type: "host-local" })).rejects.toThrow(/host-local failed ADD/);
    expect(await onNode("ip", "-o", "link")).toBe(before);
  });
});

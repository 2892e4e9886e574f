// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import { kubectl, shell } from "./support/calico-node.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** docs/migrate-from-calico.md, host-local: pods of bridge and host-local run on while their node changes to Gingham. */

const NODE = "node-2";
const IMPORT = `KUBECONFIG=/etc/gingham/kubeconfig ${join(ROOT, "bin/gingham")} node import`;
const CONF = {
  cniVersion: "1.0.0",
  name: "old-net",
  type: "bridge",
  bridge: "cni0",
  isDefaultGateway: true,
  ipam: { type: "host-local", subnet: "192.168.50.0/24" },
};

let lab: RemoteLab;

beforeAll(async () => {
  // Blocks as large as the subnet that each node has for its bridge.
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 2, pods: 1, blockSize: 24 });
  for (const name of ["web", "plain", "gone"]) await onNode(`ip netns add ${name}; ${call("ADD", name)}`);
  const pod = {
    metadata: { name: "web", namespace: "default" },
    spec: { nodeName: NODE, containers: [{ name: "main", image: "none" }] },
  };
  await kubectl(lab, ["create", "-f", "-"], JSON.stringify({ apiVersion: "v1", kind: "Pod", ...pod }));
  const status = JSON.stringify({
    status: { phase: "Running", podIP: "192.168.50.2", podIPs: [{ ip: "192.168.50.2" }] },
  });
  await kubectl(lab, ["patch", "pod", "web", "--subresource=status", "--type=merge", "-p", status]);
  // Its runtime has noted where it was, and has not told anybody of its end.
  await onNode(`ip netns del gone; mkdir -p /var/lib/cni/results
    echo '{"result":{"interfaces":[{"name":"eth0","sandbox":"/run/netns/gone"}]}}' > /var/lib/cni/results/old-net-gone-eth0`);
});
afterAll(() => lab.stop());

function call(verb: string, name: string): string {
  const env = `CNI_COMMAND=${verb} CNI_CONTAINERID=${name} CNI_NETNS=/run/netns/${name} CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin`;
  return `echo '${JSON.stringify(CONF)}' | env ${env} /opt/cni/bin/bridge > /dev/null`;
}

async function onNode(script: string): Promise<string> {
  return await shell(lab, NODE, script);
}

async function owners(): Promise<readonly string[]> {
  const text = await kubectl(lab, ["get", "ipamblock", "192-168-50-0-24", "-o", "json"]);
  const { spec } = JSON.parse(text) as {
    spec: { affinity: string; allocations: (number | null)[]; attributes: { handle_id: string }[] };
  };
  expect(spec.affinity).toBe(`host:${NODE}`);
  return spec.allocations.flatMap((index, i) => (index === null ? [] : [`${i} ${spec.attributes[index]?.handle_id}`]));
}

describe("pods of host-local", () => {
  test("without a yes nothing is claimed", async () => {
    const { exitCode, stdout } = await lab.exec(NODE, ["bash", "-c", IMPORT]);
    expect(exitCode).toBe(1);
    expect(
      stdout.split("\n").map((line) => line.split(/ {2,}/).slice(0, 2).concat(line.split(/ {2,}/).slice(4)).join(" ")),
    ).toEqual([
      "ADDRESS NETWORK WHAT",
      "192.168.50.2 old-net claim",
      "192.168.50.3 old-net claim",
      "192.168.50.4 old-net none: its container has gone; the file can be deleted",
      "",
    ]);
    expect(await kubectl(lab, ["get", "ipamblocks", "-o", "name"])).not.toContain("192-168-50-0-24");
  });

  test("import claims what runs, with the gateway and what stands for the subnet; again, it changes nothing", async () => {
    expect(await onNode(`${IMPORT} --yes`)).toContain("Claimed 2 of 2.");
    const held = await owners();
    expect(held).toEqual([
      "0 gingham-segment.192-168-50-0-24",
      "1 gingham-segment.192-168-50-0-24",
      "2 old-net.web",
      expect.stringMatching(/^3 old-net\.[0-9a-f]{40}$/) as string,
      "255 gingham-segment.192-168-50-0-24",
    ]);
    expect(await onNode(`${IMPORT} --yes`)).toContain("Claimed 2 of 2.");
    expect(await owners()).toEqual(held);
  });

  test("nobody is given them, and pods of both kinds reach each other", async () => {
    const asked = { name: "thief", node: NODE, annotations: { "cni.projectcalico.org/ipAddrs": '["192.168.50.2"]' } };
    await expect(lab.addPod(asked)).rejects.toThrow(/192\.168\.50\.2/);
    const { ips } = await lab.addPod({ name: "new", node: NODE });
    await onNode("echo 1 > /proc/sys/net/ipv4/conf/cni0/proxy_arp");
    const ping = async (target: string, ip: string): Promise<boolean> =>
      (await lab.exec(target, ["ping", "-c", "1", "-W", "1", ip])).exitCode === 0;
    // From the other node, by the block's route; on the node, both ways.
    await waitUntil("node-1 to reach it", () => ping("pod-1", "192.168.50.2"), 15_000);
    expect(await ping("new", "192.168.50.3")).toBe(true);
    await onNode(`ip netns exec web ping -c 1 -W 2 ${ips[0]}`);
  });

  test("an address comes free when its container ends, whatever agent is there by then", async () => {
    await onNode("ip netns del plain");
    // An agent sweeps when it starts, and else every 20 s.
    await lab.killAgent(NODE, "SIGTERM");
    await lab.startAgent(NODE);
    await waitUntil(
      "192.168.50.3 to be free",
      async () => !(await owners()).some((line) => line.startsWith("3 ")),
      40_000,
    );
    expect(await owners()).toContain("2 old-net.web");
  });
});

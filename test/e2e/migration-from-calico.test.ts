// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import { CalicoNode, type CalicoPod, kubectl, shell } from "./support/calico-node.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** docs/migrate-from-calico.md for one node, under traffic: what Calico leaves there, and what Gingham makes of it. */

const NODE = "node-2";
const BLOCK = "192.168.77.64/26";
const GINGHAM = `${join(ROOT, "bin/gingham")} node`;

let lab: RemoteLab;
let calico: CalicoNode;
let plugin: CalicoPod;
let felix: CalicoPod;
/** The agent is ready when it can take pods. */
let starting: Promise<void>;

beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 2, pods: 1 });
  await lab.killAgent(NODE, "SIGKILL");
  // The laboratory's runtime keeps its network configuration.
  await onNode(`${GINGHAM} clean --yes --cni-conf-dir /run/none`);
  calico = new CalicoNode(lab, NODE, BLOCK);
  const [claim] = (await kubectl(lab, ["get", "blockaffinities", "-o", "jsonpath={.items[*].spec.cidr}"])).split(" ");
  await calico.build(["web", "db", "job"], [{ block: claim ?? "", via: "172.30.0.11" }]);
  [felix, plugin] = calico.pods as [CalicoPod, CalicoPod];
}, 120_000);
afterAll(() => lab.stop());

async function onNode(script: string): Promise<string> {
  return await shell(lab, NODE, script);
}

interface Owned {
  readonly handle_id: string;
  readonly secondary: { readonly pod: string };
}

/** Addresses in use of the block, as `ordinal pod`. */
async function held(): Promise<readonly string[]> {
  const text = await kubectl(lab, ["get", "ipamblock", BLOCK.replace(/[./]/g, "-"), "-o", "json"]);
  const { spec } = JSON.parse(text) as { spec: { allocations: (number | null)[]; attributes: Owned[] } };
  return spec.allocations.flatMap((index, i) =>
    index === null ? [] : [`${i} ${spec.attributes[index]?.secondary.pod}`],
  );
}

async function ping(ip: string): Promise<boolean> {
  return (await lab.exec("pod-1", ["ping", "-c", "1", "-W", "1", ip])).exitCode === 0;
}

describe("a node moves from Calico", () => {
  test("its pods answer before", async () => {
    for (const { ip } of calico.pods) await waitUntil(`${ip} to answer`, () => ping(ip), 10_000);
  });

  test("the agent starts and adopts them: not a packet is lost, no address changes", async () => {
    const traffic = [plugin, felix].map(({ ip }) =>
      lab.exec("pod-1", ["ping", "-i", "0.05", "-c", "80", "-W", "2", ip]),
    );
    const before = await held();
    starting = lab.startAgent(NODE);
    starting.catch(() => {});
    const records = async (): Promise<string> =>
      onNode("ls /var/lib/gingham/attachments/k8s-pod-network 2>/dev/null || true");
    await waitUntil("the pods to be adopted", async () => (await records()).trim().split("\n").length === 3, 30_000);
    for (const { ip, hostIface } of [plugin, felix]) {
      const route = async (): Promise<boolean> =>
        (await onNode(`ip route show ${ip}`)).includes(`dev ${hostIface} proto 80`);
      await waitUntil(`the route to ${ip} to be Gingham's`, route, 10_000);
    }
    for (const pinging of traffic) expect((await pinging).stdout).toMatch(/80 packets transmitted, 80 received/);
    expect(await held()).toEqual(before);
    for (const pod of [plugin, felix]) await calico.check(pod);
    // The runtime forgets the third: its namespace ends. The sweep has time until it is asked for below.
    await onNode(`ip netns del cni-${calico.pods[2]?.name}`);
  });

  test("the agent is ready when Felix's chains have gone, which cut off what Felix does not know; the pods' routes stay", async () => {
    const status = async (): Promise<string> => (await lab.exec(NODE, ["bash", "-c", `${GINGHAM} status`])).stdout;
    await waitUntil("the agent to tell of them", async () => (await status()).includes("CalicoLeftovers"), 20_000);
    const planned = await onNode(`${GINGHAM} clean --calico-leftovers --yes`);
    expect(planned).toMatch(/chains cali-\* in table ip filter/);
    // None but those that ours stand beside.
    expect(
      planned.split("\n").filter((line) => /^ +route/.test(line) && !line.includes("ours to the same pod stays")),
    ).toEqual([]);
    await starting;
    for (const pod of [plugin, felix]) expect(await ping(pod.ip)).toBe(true);
    const [ip = ""] = (await lab.addPod({ name: "new", node: NODE })).ips;
    // Calico's block has room, so it is used on.
    expect(ip).toMatch(/^192\.168\.77\./);
    expect(calico.pods.map((pod) => pod.ip)).not.toContain(ip);
    await waitUntil(`${ip} to answer`, () => ping(ip), 10_000);
  });

  test("the end of an old pod frees what Calico had allocated, by DEL or without", async () => {
    await calico.remove(plugin);
    await waitUntil("its address to be free", async () => !(await held()).some((line) => line.endsWith(" db")), 10_000);
    const handle = ["get", "ipamhandle", `k8s-pod-network.${plugin.containerID}`, "--ignore-not-found", "-o", "name"];
    await waitUntil("its handle to be gone", async () => (await kubectl(lab, handle)) === "", 10_000);
    expect(await onNode(`ip route show ${plugin.ip}; ip -o link show ${plugin.hostIface} 2>&1 || true`)).toContain(
      "does not exist",
    );
    // The third's namespace has ended. An agent sweeps when it starts, and else every 20 s; it knows the adopted by their records.
    await lab.killAgent(NODE, "SIGKILL");
    await lab.startAgent(NODE);
    expect(await ping(felix.ip)).toBe(true);
    await waitUntil(
      "the other's to be free",
      async () => !(await held()).some((line) => line.endsWith(" job")),
      40_000,
    );
  });

  test("gingham ipam check finds nothing wrong", async () => {
    await kubectl(lab, ["delete", "pod", "job", "--wait=false"]);
    const report = async (): Promise<string> => {
      const { stdout } = await lab.exec("lab", [
        "bash",
        "-c",
        `KUBECONFIG=/run/gingham-lab/admin.kubeconfig ${join(ROOT, "bin/gingham")} ipam check`,
      ]);
      return stdout;
    };
    await waitUntil("a clean check", async () => (await report()).includes("No problem."), 30_000).catch(async () => {
      throw new Error(await report());
    });
  });

  test("going back: the agent ends, and pods of both kinds keep links, routes and allocations", async () => {
    await lab.killAgent(NODE, "SIGTERM");
    const before = await held();
    await onNode(`${GINGHAM} clean --keep-pods --yes`);
    expect(
      await onNode("nft list tables; ls /var/lib/gingham /run/gingham /etc/cni/net.d 2>/dev/null || true"),
    ).not.toMatch(/inet gingham|attachments|agent\.sock|gingham\.conflist/);
    const [fresh] = (await lab.listPods()).filter(({ name }) => name === "new");
    for (const ip of [felix.ip, ...(fresh?.ips ?? [])]) expect(await ping(ip)).toBe(true);
    expect(await held()).toEqual(before);
    // What Calico's plugin releases by, and where Calico's Felix looks for a pod's link.
    const handles = await kubectl(lab, ["get", "ipamhandles", "-o", "name"]);
    expect(handles).toContain(`k8s-pod-network.${fresh?.containerID}`);
  });
});

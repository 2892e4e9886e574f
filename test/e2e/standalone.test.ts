// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { RunResult } from "../../src/lab/run.ts";
import { ROOT } from "./support/stack.ts";

/** A node without an agent: the launcher executes gingham-standalone, since the configuration names a kubeconfig. */

const NODE = "node-1";
const CONF = {
  cniVersion: "1.0.0",
  name: "k8s-pod-network",
  type: "gingham",
  nodename: NODE,
  kubernetes: { kubeconfig: "/etc/gingham/kubeconfig" },
  ipam: { type: "gingham-ipam" },
};

let lab: RemoteLab;
beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 1, pods: 1 });
  await lab.killAgent(NODE, "SIGKILL");
  await shell(`install -m 755 ${join(ROOT, "dist/gingham-standalone")} /opt/cni/bin/; ip netns add solo`);
  // Nothing is tracked until a rule asks for it.
  const chain = "add chain inet track pre { type filter hook prerouting priority 0; }";
  await shell(`nft 'add table inet track; ${chain}; add rule inet track pre ct state new counter'`);
});
afterAll(() => lab.stop());

async function shell(script: string): Promise<RunResult> {
  return await lab.exec(NODE, ["bash", "-ec", script]);
}

type Verb = "ADD" | "DEL" | "CHECK" | "GC" | "STATUS";

function call(command: Verb, conf: object = CONF, containerID = "c0ffee"): Promise<RunResult> {
  const args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=solo";
  const env = `CNI_COMMAND=${command} CNI_CONTAINERID=${containerID} CNI_NETNS=/run/netns/solo CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin`;
  return shell(`echo '${JSON.stringify(conf)}' | env ${env} CNI_ARGS='${args}' /opt/cni/bin/gingham`);
}

async function handleOfSolo(): Promise<string> {
  return (await lab.kubectl(["get", "ipamhandle", "k8s-pod-network.c0ffee", "--ignore-not-found", "-o", "name"]))
    .stdout;
}

/** The pod sends a packet to its node, which tracks it; returns the entries that name the address. */
async function makeFlow(ip: string): Promise<string> {
  await shell("ip netns exec solo bash -c 'echo hello > /dev/udp/172.30.0.11/53'");
  return flowsOf(ip);
}

async function flowsOf(ip: string): Promise<string> {
  return (await shell(`conntrack -L 2>/dev/null | grep -F '=${ip} ' || true`)).stdout;
}

function addressIn({ stdout }: RunResult): string {
  const result = JSON.parse(stdout) as { ips: { address: string }[] };
  return result.ips[0]?.address.replace("/32", "") ?? "";
}

/** What is written to the Pod object before the call ends. */
async function annotationsOfSolo(): Promise<unknown> {
  const { stdout } = await lab.kubectl(["get", "pod", "solo", "-o", "jsonpath={.metadata.annotations}"]);
  return stdout === "" ? {} : JSON.parse(stdout);
}

describe("gingham-standalone", () => {
  let ip: string;

  test("ADD gives the pod an address of the node's block and wires it", async () => {
    const spec = { nodeName: NODE, containers: [{ name: "main", image: "none" }] };
    const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "solo", namespace: "default" }, spec };
    expect(await lab.kubectl(["create", "-f", "-"], JSON.stringify(pod))).toMatchObject({ exitCode: 0 });
    const result = await call("ADD");
    expect(result).toMatchObject({ exitCode: 0 });
    ip = addressIn(result);
    expect(ip).toMatch(/^192\.168\./);
    expect((await shell(`ip route show ${ip}`)).stdout).toMatch(/dev cali\w+ proto 80 scope link/);
    expect((await shell(`ping -c 1 -W 2 ${ip}`)).exitCode).toBe(0);
    expect(await handleOfSolo()).toContain("k8s-pod-network.c0ffee");
    expect(await annotationsOfSolo()).toEqual({
      "cni.projectcalico.org/podIP": `${ip}/32`,
      "cni.projectcalico.org/podIPs": `${ip}/32`,
      "cni.projectcalico.org/containerID": "c0ffee",
    });
  });

  test("a second ADD answers the recorded result", async () => {
    const { stdout } = await call("ADD");
    expect(JSON.parse(stdout)).toMatchObject({ ips: [{ address: `${ip}/32` }] });
  });

  test("CHECK finds it well, STATUS too, and GC leaves what is listed", async () => {
    const conf = { ...CONF, cniVersion: "1.1.0" };
    const prevResult = JSON.parse((await call("ADD", conf)).stdout) as object;
    // The laboratory's own pod among them.
    const names = (await shell("ls /var/lib/gingham/attachments/k8s-pod-network")).stdout.trim().split("\n");
    const containerIDs = names.map((name) => name.replace(":eth0.json", ""));
    expect(containerIDs).toContain("c0ffee");
    const entries = containerIDs.map((containerID) => ({ containerID, ifname: "eth0" }));
    const listed = { "cni.dev/valid-attachments": entries };
    const good = { exitCode: 0, stdout: "" };
    expect(await call("CHECK", { ...conf, prevResult })).toMatchObject(good);
    expect(await call("STATUS", conf)).toMatchObject(good);
    expect(await call("GC", { ...conf, ...listed })).toMatchObject(good);
    expect(await call("CHECK", { ...conf, prevResult })).toMatchObject(good);
    await shell("ip netns exec solo ip route del default");
    expect(JSON.parse((await call("CHECK", { ...conf, prevResult })).stdout)).toMatchObject({ code: 107 });
    await shell("ip netns exec solo ip route add default via 169.254.1.1 dev eth0");
  });

  test("DEL takes it all back, twice, and the pod's tracked connections with it", async () => {
    expect(await makeFlow(ip)).not.toBe("");
    expect(await call("DEL")).toMatchObject({ exitCode: 0, stdout: "" });
    expect(await flowsOf(ip)).toBe("");
    expect(await handleOfSolo()).toBe("");
    expect(await annotationsOfSolo()).toMatchObject({ "cni.projectcalico.org/podIP": "" });
    expect((await shell(`ip route show ${ip}; ls /var/lib/gingham/attachments/k8s-pod-network`)).stdout).not.toContain(
      "c0ffee",
    );
    expect(await call("DEL")).toMatchObject({ exitCode: 0 });
  });

  test("DEL succeeds while the API server is away, and a later call of any pod gives the address back", async () => {
    expect((await call("ADD")).exitCode).toBe(0);
    await lab.killAPIServer("SIGKILL");
    expect(await call("DEL")).toMatchObject({ exitCode: 0, stdout: "" });
    expect((await shell("ip netns exec solo ip -o link")).stdout).not.toContain("eth0");
    await lab.startAPIServer();
    expect(await handleOfSolo()).not.toBe("");
    // One that was left a moment ago may mean that the datastore is still away.
    await shell("sleep 10.5");
    expect(await call("DEL", CONF, "another")).toMatchObject({ exitCode: 0 });
    expect(await handleOfSolo()).toBe("");
  });

  test("without a kubeconfig DEL is written down, and the agent works it off when it is back", async () => {
    expect((await call("ADD")).exitCode).toBe(0);
    const { kubernetes: _, ...noKubeconfig } = CONF;
    expect(await call("DEL", noKubeconfig)).toMatchObject({ exitCode: 0, stdout: "" });
    expect((await shell("ls /var/lib/gingham/pending")).stdout).toContain(".del");
    expect(await handleOfSolo()).not.toBe("");
    await lab.startAgent(NODE);
    for (let i = 0; i < 60 && (await handleOfSolo()) !== ""; i++) await shell("sleep 0.5");
    expect(await handleOfSolo()).toBe("");
    expect((await shell("ls /var/lib/gingham/pending; ip -o link")).stdout).not.toMatch(/\.del|cali\w+.*solo/);
  });

  test("the agent has a pod's tracked connections forgotten soon after its DEL", async () => {
    const ip = addressIn(await call("ADD"));
    expect(await makeFlow(ip)).not.toBe("");
    expect(await call("DEL")).toMatchObject({ exitCode: 0, stdout: "" });
    for (let i = 0; i < 20 && (await flowsOf(ip)) !== ""; i++) await shell("sleep 0.1");
    expect(await flowsOf(ip)).toBe("");
  });
});

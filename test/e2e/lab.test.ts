// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { NETWORK_NAME } from "../../src/lab/cluster-objects.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import { type RunResult, run } from "../../src/lab/run.ts";
import type { LabPod } from "../../src/lab/types.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** The whole of it, node by node, in a laboratory: what happens when things die, vanish or are taken away. */

/** The agent puts right what it can within this time of being able to, says the issue. */
const REPAIR_MS = 60_000;
const SCRIPT = join(ROOT, "src/main/lab.ts");

let lab: RemoteLab;
let hostBefore: string;

beforeAll(async () => {
  hostBefore = await readHost();
  lab = await startLab({ root: ROOT, script: SCRIPT, nodes: 3, pods: 6 });
});
afterAll(() => lab.stop());

/** What a laboratory could have changed on the host. */
async function readHost(): Promise<string> {
  const commands = [
    ["ip", "-o", "link"],
    ["ip", "route"],
    ["ip", "-6", "route"],
    ["nft", "list", "ruleset"],
    ["ip", "netns"],
  ];
  const outputs = await Promise.all(commands.map(async (argv) => `${argv.join(" ")}\n${(await run(argv)).stdout}`));
  return outputs.join("\n");
}

async function ok(result: Promise<RunResult>): Promise<string> {
  const { exitCode, stdout, stderr } = await result;
  if (exitCode !== 0) throw new Error(`exit status ${exitCode}: ${stderr}${stdout}`);
  return stdout;
}

function podOn(pods: readonly LabPod[], node: string): LabPod {
  const pod = pods.find((candidate) => candidate.node === node);
  if (pod === undefined) throw new Error(`No pod on ${node}`);
  return pod;
}

/** Who holds an address. */
async function listHandles(): Promise<readonly string[]> {
  const handles = await ok(lab.kubectl(["get", "ipamhandles", "-o", "jsonpath={.items[*].spec.handleID}"]));
  return handles.split(" ").filter((handle) => handle !== "");
}

describe("the laboratory", () => {
  test("keeps no process that has ended, not even one whose parent has", async () => {
    await ok(lab.exec("node-1", ["sh", "-c", "(sh -c 'exit 0' &); sleep 0.2"]));
    const states = "grep -h ^State: /proc/[0-9]*/status 2>/dev/null || true";
    await waitUntil(
      "zombies to go",
      async () => !(await ok(lab.exec("node-1", ["sh", "-c", states]))).includes("zombie"),
      5_000,
    );
  });
});

describe("kubectl on the host", () => {
  test("prints the auditor's columns", async () => {
    const env = { ...process.env, KUBECONFIG: lab.kubeconfig };
    const kinds = "ipamblocks,blockaffinities,ipamhandles,ippools";
    const { exitCode, stdout } = await run(["kubectl", "get", kinds], { env });
    expect(exitCode).toBe(0);
    const heads = stdout.split("\n").filter((line) => line.startsWith("NAME"));
    expect(heads.map((head) => head.trim().split(/ {2,}/).slice(1))).toEqual([
      ["CIDR", "NODE", "USED", "FREE", "AGE"],
      ["NODE", "CIDR", "STATE", "AGE"],
      ["ADDRESSES", "AGE"],
      ["CIDR", "BLOCKSIZE", "IPIP", "VXLAN", "NAT", "DISABLED", "ALLOCATABLE", "HEALTHY", "AGE", "MESSAGE"],
    ]);
  });

  test("shows a block with the fields that Calico stores", async () => {
    const text = await ok(lab.kubectl(["get", "ipamblocks", "-o", "json"]));
    const { items } = JSON.parse(text) as { items: { spec: Record<string, unknown> }[] };
    expect(items).toHaveLength(3);
    for (const { spec } of items) {
      expect(Object.keys(spec).sort()).toEqual(
        [
          ...["affinity", "affinityClaimTime", "allocations", "attributes", "cidr", "deleted", "sequenceNumber"],
          ...["sequenceNumberForAllocation", "strictAffinity", "unallocated"],
        ].sort(),
      );
    }
  });
});

describe("kubectl get pod -o yaml", () => {
  async function readAnnotations(pod: string): Promise<Readonly<Record<string, string>>> {
    const text = await ok(lab.kubectl(["get", "pod", pod, "-o", "jsonpath={.metadata.annotations}"]));
    return JSON.parse(text === "" ? "{}" : text) as Record<string, string>;
  }

  test("shows the addresses and the sandbox as Calico's plugin writes them, also after its agent died at once", async () => {
    const { name, ips, containerID } = await lab.addPod({ name: "annotated", node: "node-1" });
    const address = `${ips[0]}/32`;
    const expected = {
      "cni.projectcalico.org/podIP": address,
      "cni.projectcalico.org/podIPs": address,
      "cni.projectcalico.org/containerID": containerID,
    };
    const isRight = async (): Promise<boolean> => {
      const found = await readAnnotations(name);
      return Object.entries(expected).every(([key, text]) => found[key] === text);
    };
    await waitUntil("the annotations", isRight, 5000);
    // As if the agent had died before it came to them; a new one repairs that, one pod after another.
    await ok(lab.kubectl(["annotate", "pod", name, ...Object.keys(expected).map((key) => `${key}-`)]));
    expect(await isRight()).toBe(false);
    await lab.killAgent("node-1", "SIGKILL");
    await lab.startAgent("node-1");
    await waitUntil("the annotations to be repaired", isRight, REPAIR_MS);
    await lab.delPod(name);
  });
});

describe("routes", () => {
  test("a blackhole and a pod's route come back when somebody deletes them", async () => {
    const { ips } = podOn(await lab.listPods(), "node-1");
    const routes = async (): Promise<string> => ok(lab.exec("node-1", ["ip", "route"]));
    const before = await routes();
    const blackhole = /blackhole (\S+)/.exec(before)?.[1] ?? "";
    const remote = /^(\S+) via .* proto 80/m.exec(before)?.[1] ?? "";
    await ok(lab.exec("node-1", ["ip", "route", "del", "blackhole", blackhole]));
    await ok(lab.exec("node-1", ["ip", "route", "del", ips[0] ?? ""]));
    await ok(lab.exec("node-1", ["ip", "route", "del", remote]));
    await waitUntil("the deleted routes", async () => (await routes()) === before, REPAIR_MS);
  });

  test("a route of somebody else stays", async () => {
    await ok(lab.exec("node-2", ["ip", "route", "add", "203.0.113.0/24", "via", "172.30.0.1", "proto", "static"]));
    await lab.killAgent("node-2", "SIGTERM");
    await lab.startAgent("node-2");
    expect(await ok(lab.exec("node-2", ["ip", "route"]))).toContain("203.0.113.0/24 via 172.30.0.1");
  });
});

describe("a dead agent", () => {
  test("SIGKILL under a running ping between nodes loses no packet, and no address is given twice", async () => {
    const pods = await lab.listPods();
    const [from, to] = [podOn(pods, "node-1"), podOn(pods, "node-2")];
    const pinging = lab.exec(from.name, ["fping", "-q", "-c", "300", "-p", "10", "-t", "1000", to.ips[0] ?? ""]);
    await sleep(300);
    await Promise.all([lab.killAgent("node-1", "SIGKILL"), lab.killAgent("node-2", "SIGKILL")]);
    await sleep(300);
    await Promise.all([lab.startAgent("node-1"), lab.startAgent("node-2")]);
    const { stderr } = await pinging;
    expect(stderr).toContain("xmt/rcv/%loss = 300/300/0%");

    const added = await Promise.all(
      ["node-1", "node-2"].map((node) => lab.addPod({ name: `after-kill-${node}`, node })),
    );
    const ips = (await lab.listPods()).flatMap((pod) => pod.ips);
    expect(new Set(ips).size).toBe(ips.length);
    for (const pod of added) await ok(lab.exec(from.name, ["fping", "-q", "-c", "2", "-p", "50", pod.ips[0] ?? ""]));
  });

  test("an ADD waits for the agent to come back", async () => {
    await lab.killAgent("node-1", "SIGKILL");
    const adding = lab.addPod({ name: "patient", node: "node-1" });
    await sleep(500);
    await lab.startAgent("node-1");
    const { ips } = await adding;
    await ok(lab.exec("node-1", ["fping", "-q", "-c", "1", ips[0] ?? ""]));
  });

  test("a DEL without an agent succeeds, and is worked off when it is back", async () => {
    const { containerID } = await lab.addPod({ name: "orphan", node: "node-3" });
    const handle = `${NETWORK_NAME}.${containerID}`;
    await lab.killAgent("node-3", "SIGKILL");
    await lab.delPod("orphan");
    expect(await listHandles()).toContain(handle);
    await lab.startAgent("node-3");
    await waitUntil("the pending release", async () => !(await listHandles()).includes(handle), REPAIR_MS);
    const links = await ok(lab.exec("node-3", ["ip", "-o", "link"]));
    const alive = (await lab.listPods()).filter(({ node }) => node === "node-3").length;
    expect(links.match(/cali[0-9a-f]{11}/g)).toHaveLength(alive);
  });
});

describe("an API server that is away", () => {
  async function cni(command: "ADD" | "DEL", netns: string, containerID: string): Promise<RunResult> {
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: containerID,
      CNI_NETNS: netns,
      CNI_IFNAME: "eth0",
      CNI_PATH: "/opt/cni/bin",
    };
    const conf = JSON.stringify({ cniVersion: "1.0.0", name: NETWORK_NAME, type: "gingham" });
    return lab.exec("node-1", ["/opt/cni/bin/gingham"], { env, input: conf });
  }

  test("ADD says try again later, and leaves nothing behind", async () => {
    await ok(lab.exec("node-1", ["ip", "netns", "add", "lonely"]));
    const links = await ok(lab.exec("node-1", ["ip", "-o", "link"]));
    const handles = await listHandles();
    await lab.killAPIServer("SIGKILL");
    const { exitCode, stdout } = await cni("ADD", "/run/netns/lonely", "lonely-1");
    expect(exitCode).not.toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ code: 11 });
    expect(await ok(lab.exec("node-1", ["ip", "-o", "link"]))).toBe(links);
    await lab.startAPIServer();
    await waitUntil(
      "what was taken to be given back",
      async () => (await listHandles()).length === handles.length,
      REPAIR_MS,
    );
  });

  test("traffic goes on meanwhile, and pods come and go afterwards", async () => {
    const pods = await lab.listPods();
    const [from, to] = [podOn(pods, "node-1"), podOn(pods, "node-2")];
    await lab.killAPIServer("SIGKILL");
    await ok(lab.exec(from.name, ["fping", "-q", "-c", "20", "-p", "20", to.ips[0] ?? ""]));
    await lab.startAPIServer();
    // The kubeconfig that people have exported on the host works as before.
    await ok(run(["kubectl", "--kubeconfig", lab.kubeconfig, "get", "nodes"]));
    const pod = await lab.addPod({ name: "afterwards", node: "node-1" });
    await ok(lab.exec(to.name, ["fping", "-q", "-c", "2", "-p", "50", pod.ips[0] ?? ""]));
    await lab.delPod("afterwards");
  });
});

describe("a node that leaves", () => {
  test("its routes vanish from the other nodes", async () => {
    await lab.killAgent("node-3", "SIGTERM");
    const routes = async (): Promise<string> => ok(lab.exec("node-1", ["ip", "route"]));
    expect(await routes()).toContain("via 172.30.0.13");
    await ok(lab.kubectl(["delete", "node", "node-3"]));
    await waitUntil("its routes to vanish", async () => !(await routes()).includes("via 172.30.0.13"), REPAIR_MS);
  });
});

describe("the host", () => {
  test("is as it was when the laboratory has gone", async () => {
    await lab.stop();
    expect(await readHost()).toBe(hostBefore);
  });

  test("npm run lab -- --once exits 0", async () => {
    const argv = [process.execPath, SCRIPT, "--once", "--nodes", "2", "--pods", "4"];
    const { exitCode, stdout, stderr } = await run(argv);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toContain("32 pings, 0 lost");
    expect(await readHost()).toBe(hostBefore);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { NodeReport } from "../../src/felix/status.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { RunResult } from "../../src/lab/run.ts";
import { ROOT } from "./support/stack.ts";

/** `gingham node …` on a node of the laboratory, with the agent's own socket and state. */

let lab: RemoteLab;
beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 2, pods: 2 });
});
afterAll(() => lab.stop());

function gingham(node: string, ...args: readonly string[]): Promise<RunResult> {
  const words = [process.execPath, "--disable-warning=ExperimentalWarning", join(ROOT, "src/main/cli.ts"), ...args];
  return lab.exec(node, words);
}

async function reportOf(node: string): Promise<NodeReport> {
  return JSON.parse((await gingham(node, "node", "status", "-o", "json")).stdout) as NodeReport;
}

describe("gingham node status", () => {
  test("shows addresses, blocks, routes and MTU of a ready agent", async () => {
    const { exitCode, stdout } = await gingham("node-1", "node", "status");
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 });
    expect(stdout).toMatch(/^Node +node-1\nAgent +ready, process \d+/);
    expect(stdout).toContain("(kubernetes-internal-ip)");

    const [pod] = (await lab.listPods()).filter(({ node }) => node === "node-1");
    const families = pod?.ips.length ?? 0;
    // A pod's own routes are counted within a second of its ADD.
    const report = await vi.waitUntil(
      async () => {
        const now = await reportOf("node-1");
        return now.routes.wanted.workload === families && now;
      },
      { timeout: 10_000, interval: 200 },
    );
    expect(families).toBeGreaterThan(0);
    expect(report.addresses).toHaveLength(families);
    expect(report.mtu.podBytes).toBeGreaterThan(1000);
    expect(report.routes).toMatchObject({ wanted: { workload: families, remote: families }, pending: 0 });
    expect(report.blocks.map(({ used }) => used)).toEqual(Array(families).fill(1));
  });

  test("tells what was repaired", async () => {
    const before = await reportOf("node-1");
    const block = before.blocks[0]?.cidr ?? "";
    await lab.exec("node-1", ["ip", "route", "del", "blackhole", block]);
    await expect
      .poll(async () => (await reportOf("node-1")).repairs, { timeout: 5000 })
      .toMatchObject({ total: before.repairs.total + 1, recent: [{ what: `route blackhole ${block} proto 80` }] });
  });

  test("a second agent of the node ends before it has begun, and hurts nothing", async () => {
    const flags = ["--kubeconfig", "/etc/gingham/kubeconfig", "--health-port", "0", "--metrics-port", "0"];
    const words = [process.execPath, join(ROOT, "src/main/agent.ts"), "--node-name", "node-1", ...flags];
    const { exitCode, stdout, stderr } = await lab.exec("node-1", words);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("gingham-agent: Cannot listen on /run/gingham/agent.sock: another agent does");
    // The line that it writes before it does anything.
    expect(stdout).not.toContain('"Starting"');
    expect(await gingham("node-1", "node", "status")).toMatchObject({ exitCode: 0 });
  });

  test("without an agent it says so, with status 1", async () => {
    await lab.killAgent("node-2", "SIGKILL");
    const { exitCode, stdout, stderr } = await gingham("node-2", "node", "status");
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toContain("No agent answers at /run/gingham/agent.sock (ECONNREFUSED)");
    await lab.startAgent("node-2");
    expect(await gingham("node-2", "node", "status")).toMatchObject({ exitCode: 0 });
  });
});

describe("what an agent hears of the API server", () => {
  interface Heard {
    readonly bytes: number;
    /** Segments that end a write of the server: an event, or several at once. */
    readonly writes: number;
  }

  async function count(node: string): Promise<void> {
    const server = "tcp sport 6443 counter name segments tcp flags & psh == psh counter name writes";
    const chain = `chain c { type filter hook input priority 0; ${server}; }`;
    const script = `table inet heard { counter segments { }; counter writes { }; ${chain}; }`;
    expect(await lab.exec(node, ["nft", script])).toMatchObject({ exitCode: 0, stderr: "" });
  }

  async function heardBy(node: string): Promise<Heard> {
    const { stdout } = await lab.exec(node, ["nft", "-j", "list", "counters", "table", "inet", "heard"]);
    const { nftables } = JSON.parse(stdout) as {
      readonly nftables: readonly { readonly counter?: { name: string; packets: number; bytes: number } }[];
    };
    const of = (name: string) => nftables.find(({ counter }) => counter?.name === name)?.counter;
    return { bytes: of("segments")?.bytes ?? Number.NaN, writes: of("writes")?.packets ?? Number.NaN };
  }

  test("does not grow with the pods of other nodes", async () => {
    const [PODS, NODES] = [20, ["node-1", "node-2"]];
    for (const node of NODES) await count(node);
    const before = await Promise.all(NODES.map(heardBy));
    for (let i = 0; i < PODS; i++) {
      await lab.addPod({ name: `churn-${i}`, node: "node-2" });
      await lab.delPod(`churn-${i}`);
    }
    const after = await Promise.all(NODES.map(heardBy));
    const [other, own] = after.map(({ bytes, writes }, i) => ({
      bytes: bytes - (before[i]?.bytes ?? 0),
      writes: writes - (before[i]?.writes ?? 0),
    }));
    // Of its own pods it hears each change, so what is counted is what is meant.
    expect(own?.bytes).toBeGreaterThan(PODS * 1000);
    expect(own?.writes).toBeGreaterThan(PODS * 3);
    // Bookmarks and the like: of each pod's five changes not one.
    expect(other?.bytes).toBeLessThan((own?.bytes ?? 0) / 10);
    expect(other?.writes).toBeLessThan(PODS / 2);
  });
});

describe("the start-up taint", () => {
  const TAINT = "gingham.dev/agent-not-ready";

  async function nodeSays(): Promise<string> {
    const condition = '{.status.conditions[?(@.type=="NetworkUnavailable")]';
    const path = `jsonpath={.spec.taints[*].key} ${condition}.status} ${condition}.reason}`;
    return (await lab.kubectl(["get", "node", "node-2", "-o", path])).stdout.trim();
  }

  async function onNode(command: string): Promise<string> {
    return (await lab.exec("node-2", ["sh", "-c", command])).stdout;
  }

  test("stays until a packet has gone from pod to pod and come back; an agent that stops keeps pods away", async () => {
    await lab.killAgent("node-2", "SIGTERM");
    expect(await nodeSays()).toBe("True GinghamIsDown");
    await lab.kubectl(["taint", "node", "node-2", `${TAINT}=:NoSchedule`]);
    await onNode(
      `nft 'table inet strange { chain f { type filter hook forward priority 0; iifname "cali*" drop; }; }'`,
    );
    const started = lab.startAgent("node-2");
    await expect
      .poll(() => onNode("curl -s localhost:9099/readiness"), { timeout: 15_000 })
      .toContain("did not arrive");
    expect(await nodeSays()).toBe(`${TAINT} True GinghamIsDown`);
    expect((await reportOf("node-2")).findings.map(({ code }) => code)).toContain("SelfTestFailed");
    await onNode("nft delete table inet strange");
    await started;
    await expect.poll(nodeSays, { timeout: 10_000 }).toBe("False GinghamIsUp");
  });
});

test("a kernel without the encapsulation that a pool asks for is a condition of its Node while that lasts", async () => {
  const probe = "ip link add probe type ipip local 192.0.2.1 remote 192.0.2.2 && ip link delete probe";
  const hasIPIP = (await lab.exec("node-1", ["sh", "-c", probe])).exitCode === 0;
  const setMode = async (ipipMode: string): Promise<void> => {
    const patch = JSON.stringify({ spec: { ipipMode } });
    expect(await lab.kubectl(["patch", "ippool", "default-ipv4-ippool", "--type=merge", "-p", patch])).toMatchObject({
      exitCode: 0,
    });
  };
  const condition = async (): Promise<string> => {
    const path = 'jsonpath={.status.conditions[?(@.type=="EncapsulationUnsupported")]}';
    return (await lab.kubectl(["get", "node", "node-1", "-o", path])).stdout;
  };
  await setMode("CrossSubnet");
  await expect.poll(async () => (await reportOf("node-1")).mtu.podBytes, { timeout: 10_000 }).toBe(1480);
  if (hasIPIP) expect(await condition()).toBe("");
  else
    await expect
      .poll(condition, { timeout: 10_000 })
      .toMatch(/"message":"This node's kernel has no IP-in-IP.*KernelWithoutIPIP/);
  await setMode("Never");
  await expect.poll(condition, { timeout: 10_000 }).toBe("");
});

test("an agent whose socket somebody has deleted is not ready, and says why", async () => {
  await lab.exec("node-2", ["rm", "/run/gingham/agent.sock"]);
  const readiness = async () => (await lab.exec("node-2", ["curl", "-s", "localhost:9099/readiness"])).stdout;
  await expect.poll(readiness, { timeout: 10_000 }).toContain("agent.sock does not answer (connect ENOENT");
  await lab.killAgent("node-2", "SIGTERM");
  await lab.startAgent("node-2");
});

describe("gingham-agent --plan", () => {
  /** As an administrator starts it, beside the agent that runs or in its place. */
  function plan(node: string): Promise<RunResult> {
    const program = [
      process.execPath,
      "--disable-warning=ExperimentalWarning",
      join(ROOT, "src/main/agent.ts"),
      "--plan",
    ];
    return lab.exec(node, ["env", "KUBECONFIG=/etc/gingham/kubeconfig", `NODENAME=${node}`, ...program]);
  }

  async function kernelOf(node: string): Promise<readonly string[]> {
    const script = [
      ...["ip -4 route", "ip -6 route", "ip -br link", "ip -br addr", "ip neigh show nud permanent"],
      // Multicast groups come and go with what the kernel itself does.
      "bridge fdb | grep -v ^33:33: | grep -v ^01:00:5e:",
      ...["nft -s list ruleset", "cat /proc/sys/net/ipv4/ip_forward"],
      "grep -r . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf | sort",
    ].join("; ");
    const { stdout } = await lab.exec(node, ["sh", "-c", script]);
    expect(stdout.length).toBeGreaterThan(10_000);
    return stdout.split("\n");
  }

  test("beside an agent that is done it has nothing to change", async () => {
    const before = await kernelOf("node-1");
    const { exitCode, stdout } = await plan("node-1");
    expect({ exitCode, stdout }).toEqual({
      exitCode: 0,
      stdout: expect.stringMatching(/^This agent would change nothing\.\n/) as string,
    });
    expect(await kernelOf("node-1")).toEqual(before);
  });

  test("without one it says what is missing and what is too much, and makes nothing of it", async () => {
    const { blocks } = await reportOf("node-2");
    const block = blocks[0]?.cidr ?? "";
    await lab.killAgent("node-2", "SIGKILL");
    for (const command of [
      `ip route del blackhole ${block}`,
      "ip route add 10.99.0.0/26 via 172.30.0.250 proto 80",
      "nft delete table inet gingham",
      "echo 0 > /proc/sys/net/ipv4/ip_forward",
    ])
      expect(await lab.exec("node-2", ["sh", "-c", command])).toMatchObject({ exitCode: 0 });
    const before = await kernelOf("node-2");
    const { exitCode, stdout } = await plan("node-2");
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 0 });
    for (const line of [
      `  route      ip route replace blackhole ${block} proto 80\n`,
      "  route      ip route delete 10.99.0.0/26 via 172.30.0.250 dev eth0 proto 80\n",
      "  sysctl     net.ipv4.ip_forward = 1\n",
      "  nft        add table inet gingham\n",
    ])
      expect(stdout).toContain(line);
    expect(await kernelOf("node-2")).toEqual(before);

    await lab.startAgent("node-2");
    expect((await plan("node-2")).stdout).toMatch(/^This agent would change nothing\./);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { segmentIPs } from "../../src/lab/families.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { RunResult } from "../../src/lab/run.ts";
import type { LabPod } from "../../src/lab/types.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** The agent's table in nftables, in a laboratory with the real plugins: from the pod's annotation to the packet. */

const SCRIPT = join(ROOT, "src/main/lab.ts");
/** The end of the segment that joins the nodes. */
const SEGMENT = segmentIPs([4])[0]?.ip ?? "";
const HOST_PORT = { hostPort: 8080, containerPort: 80 };

let lab: RemoteLab;
let b: LabPod | undefined;

beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: SCRIPT, nodes: 2, pods: 0, families: [4, 6] });
  await lab.addPod({ name: "a", node: "node-1", hostPort: HOST_PORT });
  b = await lab.addPod({ name: "b", node: "node-2" });
});
afterAll(() => lab.stop());

async function ok(result: Promise<RunResult>): Promise<string> {
  const { exitCode, stdout, stderr } = await result;
  if (exitCode !== 0) throw new Error(`exit status ${exitCode}: ${stderr}${stdout}`);
  return stdout;
}

async function pings(from: string, to: string, ...args: readonly string[]): Promise<boolean> {
  return (await lab.exec(from, ["ping", "-n", "-c1", "-W1", ...args, to])).exitCode === 0;
}

async function droppedOn(node: string): Promise<number> {
  const text = await ok(lab.exec(node, ["nft", "list", "counter", "inet", "gingham", "unknown-source"]));
  return Number(/packets (\d+)/.exec(text)?.[1]);
}

describe("the table inet gingham", () => {
  test("pods of different nodes reach each other in both families, and nothing of theirs is dropped", async () => {
    for (const ip of b?.ips ?? []) expect([ip, await pings("a", ip)]).toEqual([ip, true]);
    expect(await droppedOn("node-1")).toBe(0);
    expect(await ok(lab.exec("node-1", ["nft", "list", "table", "inet", "gingham"]))).toContain("192.168.0.0/16");
  });

  test("no ADD and no DEL costs a call of nft", async () => {
    const callsOf = async (): Promise<string | undefined> => {
      const text = await ok(lab.exec("node-1", ["curl", "-sf", "http://127.0.0.1:9091/metrics"]));
      return /^felix_nft_calls (\d+)$/m.exec(text)?.[1];
    };
    // Right after a look, so that the next one by the clock is a minute away.
    await lab.killAgent("node-1", "SIGTERM");
    await lab.startAgent("node-1");
    const before = await callsOf();
    const names = ["c", "d", "e", "f", "g"];
    for (const name of names) await lab.addPod({ name, node: "node-1" });
    for (const name of names) await lab.delPod(name);
    expect(Number(before)).toBeGreaterThan(0);
    expect(await callsOf()).toBe(before);
  });

  test.each([
    ["192.168.77.7/32", 0],
    ["fd00:10:244::77:7/128", 1],
  ])("a pod does not get through with %s", async (address, family) => {
    const before = await droppedOn("node-1");
    await ok(lab.exec("a", ["ip", "addr", "add", address, "dev", "eth0", ...(family === 1 ? ["nodad"] : [])]));
    expect(await pings("a", b?.ips[family] ?? "", "-I", address.split("/", 1)[0] ?? "")).toBe(false);
    expect(await droppedOn("node-1")).toBe(before + 1);
  });

  test("allowedSourcePrefixes of the pod's annotation lets it, also after the agent died, and ends with the pod", async () => {
    const annotations = { "cni.projectcalico.org/allowedSourcePrefixes": '["192.168.99.0/24"]' };
    const elements = (): Promise<string> =>
      ok(lab.exec("node-1", ["nft", "list", "set", "inet", "gingham", "allowed-sources-v4"]));
    await lab.addPod({ name: "router", node: "node-1", annotations });
    await waitUntil("the pod's prefix is in the set", async () => (await elements()).includes("192.168.99.0/24"), 2000);
    await lab.killAgent("node-1", "SIGKILL");
    await lab.startAgent("node-1");
    expect(await elements()).toContain("192.168.99.0/24");
    // The way back, so that the answer proves the way there.
    const router = (await lab.listPods()).find(({ name }) => name === "router");
    await ok(lab.exec("router", ["ip", "addr", "add", "192.168.99.9/32", "dev", "eth0"]));
    const iface = JSON.parse(await ok(lab.exec("node-1", ["ip", "-j", "route", "get", router?.ips[0] ?? ""]))) as [
      { dev: string },
    ];
    await ok(lab.exec("node-1", ["ip", "route", "add", "192.168.99.9", "dev", iface[0].dev, "table", "99"]));
    await ok(lab.exec("node-1", ["ip", "rule", "add", "to", "192.168.99.9", "iif", "eth0", "lookup", "99"]));
    await ok(lab.exec("node-2", ["ip", "route", "add", "192.168.99.9", "via", await nodeIP("node-1")]));
    expect(await pings("router", b?.ips[0] ?? "", "-I", "192.168.99.9")).toBe(true);
    await lab.delPod("router");
    await waitUntil("the prefix to go with its pod", async () => !(await elements()).includes("192.168.99"), 2000);
  });

  test("the segment sees the node, and the other node's pod sees the pod", async () => {
    // The segment knows no way to pods: that a ping comes back proves the node's address on it.
    expect(await pings("a", SEGMENT)).toBe(true);
    const patchPool = async (spec: object): Promise<void> => {
      const patch = JSON.stringify({ spec });
      await ok(lab.kubectl(["patch", "ippool", "default-ipv4-ippool", "--type", "merge", "-p", patch]));
    };
    await patchPool({ disabled: true });
    expect(await pings("a", SEGMENT)).toBe(true);
    await patchPool({ natOutgoing: false });
    await waitUntil("the node stops to masquerade", async () => !(await pings("a", SEGMENT)), 5000);
    expect(await pings("a", b?.ips[0] ?? "")).toBe(true);
  });

  test("a host port answers the other node, a pod beside it, and its own pod", async () => {
    const url = `http://${await nodeIP("node-1")}:${HOST_PORT.hostPort}/`;
    const program = [process.execPath, "--disable-warning=ExperimentalWarning", SCRIPT, "internal", "endpoint"];
    const server = lab.exec("a", ["timeout", "6", ...program, "answer", "80", "hello"]);
    const asks = async (from: string): Promise<boolean> =>
      (await lab.exec(from, ["timeout", "5", ...program, "ask", url])).stdout.startsWith("hello");
    await waitUntil("the host port answers node-2", () => asks("node-2"), 10_000);
    expect(await asks("b")).toBe(true);
    expect(await asks("a")).toBe(true);
    await server;
  });

  test("what somebody deletes is back at once, and an agent that starts mends what was deleted meanwhile", async () => {
    const remove = () => lab.exec("node-2", ["nft", "delete", "table", "inet", "gingham"]);
    await ok(remove());
    const list = () => lab.exec("node-2", ["nft", "list", "table", "inet", "gingham"]);
    await expect.poll(list, { timeout: 10_000 }).toMatchObject({ exitCode: 0 });
    await lab.killAgent("node-2", "SIGTERM");
    await ok(remove());
    await lab.startAgent("node-2");
    expect(await ok(lab.exec("node-2", ["nft", "list", "table", "inet", "gingham"]))).toContain(
      "fib saddr . iif oif exists",
    );
  });
});

async function nodeIP(node: string): Promise<string> {
  const path = "jsonpath={.status.addresses[0].address}";
  return await ok(lab.kubectl(["get", "node", node, "-o", path]));
}

// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { RunResult } from "../../src/lab/run.ts";
import { ROOT } from "./support/stack.ts";

/** Real agents on two nodes, without pods of their own: each answers for itself, and nobody can ask the other. */

let lab: RemoteLab;
beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 2, pods: 2 });
});
afterAll(() => lab.stop());

/** The program on a node, with the kubeconfig of its agent. */
function gingham(node: string, ...args: readonly string[]): Promise<RunResult> {
  const words = [process.execPath, "--disable-warning=ExperimentalWarning", join(ROOT, "src/main/cli.ts"), ...args];
  return lab.exec(node, ["env", "KUBECONFIG=/etc/gingham/kubeconfig", `NODENAME=${node}`, ...words]);
}

interface Calls {
  readonly calls: readonly { readonly verb: string; readonly pod: string; readonly ips?: readonly string[] }[];
}

async function callsOf(node: string, ...args: readonly string[]): Promise<Calls["calls"]> {
  const { stdout } = await gingham(node, "cni", "log", "-o", "json", ...args);
  return (JSON.parse(stdout) as Calls).calls;
}

describe("a node's journal", () => {
  test("has the calls and the addresses of its pods", async () => {
    const [pod] = await lab.listPods();
    if (pod === undefined) throw new Error("The laboratory has no pod");
    await expect
      .poll(() => callsOf(pod.node), { timeout: 10_000 })
      .toContainEqual(expect.objectContaining({ verb: "ADD", code: 0, pod: pod.name, ips: pod.ips }));
    const address = pod.ips[0] ?? "";
    const held = await gingham(pod.node, "ipam", "history", address, "--local");
    expect(held).toMatchObject({ exitCode: 0 });
    expect(held.stdout).toContain(pod.name);

    await lab.delPod(pod.name);
    await expect
      .poll(() => callsOf(pod.node), { timeout: 10_000 })
      .toContainEqual(expect.objectContaining({ verb: "DEL", code: 0, pod: pod.name }));
    const { exitCode, stdout } = await gingham(pod.node, "ipam", "history", address);
    // The laboratory's agents are no pods, so the other node cannot be asked, and the answer says so.
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/ DEL\n/);
    expect(stdout).toContain("no running pod labelled app.kubernetes.io/name=gingham-agent");
  });

  test("outlives the agent, but for the last second", async () => {
    const before = await callsOf("node-1");
    expect(before.length).toBeGreaterThan(0);
    await lab.killAgent("node-1", "SIGKILL");
    expect(await callsOf("node-1")).toEqual(before);
    await lab.startAgent("node-1");
    expect(await callsOf("node-1")).toEqual(before);
  });
});

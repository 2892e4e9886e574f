// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { NodeReport } from "../../src/felix/status.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import { ROOT } from "./support/stack.ts";

/** Agents that find their address on their links, as the environment of this laboratory tells them. */

const METHOD = "IP_AUTODETECTION_METHOD";
let lab: RemoteLab;
beforeAll(async () => {
  process.env[METHOD] = "interface=^eth0$";
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 2, pods: 2 });
});
afterAll(async () => {
  delete process.env[METHOD];
  await lab.stop();
});

async function exec(target: string, line: string): Promise<string> {
  const { exitCode, stdout, stderr } = await lab.exec(target, ["sh", "-c", line]);
  expect({ line, exitCode, stderr }).toMatchObject({ exitCode: 0 });
  return stdout;
}

async function annotation(node: string): Promise<string> {
  const path = "jsonpath={.metadata.annotations.projectcalico\\.org/IPv4Address}";
  return (await lab.kubectl(["get", "node", node, "-o", path])).stdout;
}

async function statusOf(node: string): Promise<NodeReport> {
  const cli = `${process.execPath} --disable-warning=ExperimentalWarning ${join(ROOT, "src/main/cli.ts")}`;
  const { stdout } = await lab.exec(node, ["sh", "-c", `${cli} node status -o json`]);
  return JSON.parse(stdout) as NodeReport;
}

describe("a node's address by detection", () => {
  test("a machine that gets another address is followed by the other node, and its pods reach each other", async () => {
    const before = await annotation("node-1");
    const old = before.split("/")[0] ?? "";
    expect((await statusOf("node-1")).addresses).toMatchObject([
      { address: before, method: "interface", link: "eth0" },
    ]);

    await exec(
      "node-1",
      `ip addr add 172.30.0.111/24 dev eth0 && ip addr del ${before} dev eth0; ip addr show dev eth0`,
    );
    // Deleting the first address of a subnet takes its others along, unless the kernel promotes them.
    await lab.exec("node-1", ["ip", "addr", "replace", "172.30.0.111/24", "dev", "eth0"]);
    await expect.poll(() => annotation("node-1"), { timeout: 30_000, interval: 500 }).toBe("172.30.0.111/24");
    await expect
      .poll(() => exec("node-2", "ip route show proto 80"), { timeout: 10_000 })
      .toMatch(/via 172\.30\.0\.111 dev eth0/);
    expect(await exec("node-2", "ip route show proto 80")).not.toContain(`via ${old} `);
    expect(await lab.logs("node-1")).toContain(`node address changed from ${old} to 172.30.0.111`);

    const pods = await lab.listPods();
    const [from, to] = ["node-2", "node-1"].map((node) => pods.find((pod) => pod.node === node));
    await exec(from?.name ?? "", `ping -c 2 -W 2 ${to?.ips[0]}`);
  });

  test("two candidates make the agent not ready, which says so; it keeps the address, and goes on when one is left", async () => {
    const before = await annotation("node-2");
    await lab.killAgent("node-2", "SIGTERM");
    // The annotation would tell which is meant.
    await lab.kubectl(["annotate", "node", "node-2", "projectcalico.org/IPv4Address-"]);
    await exec("node-2", "ip addr add 10.77.0.1/24 dev eth0");
    await expect(lab.startAgent("node-2")).rejects.toThrow();
    const { readiness, findings } = await statusOf("node-2");
    expect(readiness.checks["nodeAddress"]?.detail).toContain("10.77.0.1 on eth0");
    expect(findings.map(({ code }) => code)).toContain("AmbiguousNodeAddress");
    expect(await annotation("node-2")).toBe("");
    await exec("node-2", "ip addr del 10.77.0.1/24 dev eth0");
    await expect.poll(() => annotation("node-2"), { timeout: 30_000, interval: 500 }).toBe(before);
    expect((await statusOf("node-2")).readiness.ok).toBe(true);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { NodeReport } from "../../src/felix/status.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import { ROOT } from "./support/stack.ts";

/** FelixConfiguration, from `kubectl apply` to the kernel of a running agent. */

let lab: RemoteLab;
beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 2, pods: 0, vxlan: "Always" });
  const nat = ["patch", "ippools", "--type=merge", "-p", '{"spec":{"natOutgoing":true}}'];
  const pools = await ok(lab.kubectl(["get", "ippools", "-o", "jsonpath={.items[*].metadata.name}"]));
  for (const pool of pools.split(" ")) await ok(lab.kubectl([...nat, pool]));
});
afterAll(() => lab.stop());

async function ok(result: ReturnType<RemoteLab["exec"]>): Promise<string> {
  const { exitCode, stdout, stderr } = await result;
  if (exitCode !== 0) throw new Error(`exit status ${exitCode}: ${stderr}${stdout}`);
  return stdout;
}

const patience = { timeout: 10_000, interval: 100 };
const apply = async (name: string, spec: object): Promise<string> => {
  const object = { apiVersion: "crd.projectcalico.org/v1", kind: "FelixConfiguration", metadata: { name }, spec };
  return await ok(lab.kubectl(["apply", "-f", "-"], JSON.stringify(object)));
};
const postrouting = (node: string): Promise<string> =>
  ok(lab.exec(node, ["nft", "list", "chain", "inet", "gingham", "postrouting"]));
const vxlan = (node: string): Promise<string> => ok(lab.exec(node, ["ip", "-d", "link", "show", "vxlan.calico"]));

async function findings(node: string): Promise<readonly string[]> {
  const cli = [process.execPath, "--disable-warning=ExperimentalWarning", join(ROOT, "src/main/cli.ts")];
  const { stdout } = await lab.exec(node, [...cli, "node", "status", "-o", "json"]);
  const report = JSON.parse(stdout) as NodeReport;
  return report.findings.flatMap(({ code, subject }) => (code.startsWith("Config") ? [`${code} ${subject}`] : []));
}

test("natPortRange is in the packet filter within seconds, of one node or of all, and goes with the object", async () => {
  await expect.poll(() => postrouting("node-1"), patience).toContain("masquerade");
  await apply("default", { natPortRange: "40000:49999", reportingInterval: "0s" });
  await expect.poll(() => postrouting("node-1"), patience).toContain("masquerade to :40000-49999");
  await apply("node.node-1", { natPortRange: "50000:59999" });
  await expect.poll(() => postrouting("node-1"), patience).toContain("masquerade to :50000-59999");
  expect(await postrouting("node-2")).toContain("masquerade to :40000-49999");
  expect(await ok(lab.kubectl(["get", "felixconfiguration", "default", "-o", "yaml"]))).toContain(
    "reportingInterval: 0s",
  );
  await ok(lab.kubectl(["delete", "felixconfiguration", "--all"]));
  await expect.poll(() => postrouting("node-1"), patience).not.toMatch(/:[45]0000-/);
});

test("vxlanVNI makes the devices of all nodes anew, and they reach each other", async () => {
  await apply("default", { vxlanVNI: 5000 });
  for (const node of ["node-1", "node-2"]) await expect.poll(() => vxlan(node), patience).toContain("vxlan id 5000 ");
  await lab.addPod({ name: "a", node: "node-1" });
  const b = await lab.addPod({ name: "b", node: "node-2" });
  await expect
    .poll(async () => (await lab.exec("a", ["ping", "-n", "-c1", "-W1", b.ips[0] ?? ""])).exitCode, patience)
    .toBe(0);
});

test("what is wrong, not supported, or needs a restart, is a finding that names the field", async () => {
  // The schema refuses what is wrong by its type; the rest, and all of it where Calico's CRD is installed, the agent does.
  await expect(apply("default", { vxlanVNI: 0 })).rejects.toThrow("spec.vxlanVNI");
  await apply("default", { vxlanVNI: 5000, natPortRange: "9:1", bpfEnabled: true, prometheusMetricsPort: 9191 });
  await expect
    .poll(() => findings("node-1"), patience)
    .toEqual([
      "ConfigIgnored FelixConfiguration default: natPortRange",
      "ConfigUnsupported FelixConfiguration default: bpfEnabled",
      "ConfigNeedsRestart FelixConfiguration default: prometheusMetricsPort",
    ]);
  const metrics = await ok(lab.exec("node-1", ["curl", "-sf", "http://127.0.0.1:9091/metrics"]));
  expect(metrics).toMatch(/^gingham_findings\{code="ConfigIgnored"\} 1$/m);
  await lab.killAgent("node-1", "SIGTERM");
  await lab.startAgent("node-1");
  expect(await ok(lab.exec("node-1", ["curl", "-sf", "http://127.0.0.1:9191/metrics"]))).toContain("felix_host");
  expect(await vxlan("node-1")).toContain("vxlan id 5000 ");
});

// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SUPPORTED_VERSIONS } from "../../src/cni/input/versions.ts";
import { NETWORK_NAME } from "../../src/lab/cluster-objects.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { RunResult } from "../../src/lab/run.ts";
import { CNI_BIN_DIR } from "../../src/lab/topology.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** Every verb in every version, by the launcher, of a real agent on a node whose API server is real. */

const NODE = "node-1";
const VALID = "cni.dev/valid-attachments";

interface Answer {
  readonly exitCode: number;
  /** What stdout holds; undefined for nothing. */
  readonly answer: Readonly<Record<string, unknown>> | undefined;
}

let lab: RemoteLab;
beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 1, pods: 0 });
});
afterAll(() => lab.stop());

async function ok(result: Promise<RunResult>): Promise<string> {
  const { exitCode, stdout, stderr } = await result;
  if (exitCode !== 0) throw new Error(`exit status ${exitCode}: ${stderr}${stdout}`);
  return stdout;
}

const onNode = (...argv: string[]): Promise<string> => ok(lab.exec(NODE, argv));

async function call(command: string, containerID: string, conf: object): Promise<Answer> {
  const stdin = JSON.stringify({ cniVersion: "1.1.0", name: NETWORK_NAME, type: "gingham", ...conf });
  const env = [
    ...[`CNI_COMMAND=${command}`, `CNI_PATH=${CNI_BIN_DIR}`, `CONF=${stdin}`],
    ...(containerID === ""
      ? []
      : [`CNI_CONTAINERID=${containerID}`, "CNI_IFNAME=eth0", `CNI_NETNS=/run/netns/${containerID}`]),
  ];
  const script = `printf %s "$CONF" | ${CNI_BIN_DIR}/gingham`;
  const { exitCode, stdout } = await lab.exec(NODE, ["env", ...env, "sh", "-c", script]);
  return { exitCode, answer: stdout === "" ? undefined : (JSON.parse(stdout) as Record<string, unknown>) };
}

const DONE: Answer = { exitCode: 0, answer: undefined };

async function attach(containerID: string, cniVersion = "1.1.0"): Promise<object> {
  await onNode("ip", "netns", "add", containerID);
  const { exitCode, answer = {} } = await call("ADD", containerID, { cniVersion });
  expect({ exitCode, cniVersion: answer["cniVersion"] }, JSON.stringify(answer)).toEqual({ exitCode: 0, cniVersion });
  return answer;
}

async function handleCount(): Promise<number> {
  const text = await ok(lab.kubectl(["get", "ipamhandles", "-o", "name"]));
  return text.split("\n").filter((line) => line !== "").length;
}

async function leftovers(): Promise<unknown> {
  const links = (await onNode("ip", "-o", "link")).split("\n").filter((line) => /: cali/.test(line));
  return { links, handles: await handleCount() };
}
const NOTHING = { links: [], handles: 0 };

describe("with an agent", () => {
  test("VERSION names every version", async () => {
    expect(await call("VERSION", "", {})).toEqual({
      exitCode: 0,
      answer: { cniVersion: "1.1.0", supportedVersions: SUPPORTED_VERSIONS },
    });
  });

  test.each(SUPPORTED_VERSIONS)("ADD, CHECK and DEL in %s", async (cniVersion) => {
    const containerID = `v${cniVersion.replaceAll(".", "")}`;
    const prevResult = await attach(containerID, cniVersion);
    const checked = await call("CHECK", containerID, { cniVersion, prevResult });
    if (cniVersion < "0.4.0") expect(checked).toMatchObject({ exitCode: 1, answer: { code: 1 } });
    else expect(checked).toEqual(DONE);
    expect(await call("DEL", containerID, { cniVersion, prevResult })).toEqual(DONE);
    await onNode("ip", "netns", "delete", containerID);
    expect(await leftovers()).toEqual(NOTHING);
  });

  test("a Calico configuration works when its type is changed", async () => {
    const conf = {
      cniVersion: "0.3.1",
      type: "gingham",
      log_level: "info",
      log_file_path: "/var/log/calico/cni/cni.log",
      datastore_type: "kubernetes",
      nodename: NODE,
      mtu: 1400,
      num_queues: 2,
      ipam: { type: "calico-ipam", assign_ipv4: "true", assign_ipv6: "false" },
      policy: { type: "k8s" },
      kubernetes: { kubeconfig: "/etc/cni/net.d/calico-kubeconfig" },
      container_settings: { allow_ip_forwarding: true },
      feature_control: { floating_ips: true },
    };
    await onNode("ip", "netns", "add", "calico");
    expect(await call("ADD", "calico", { ...conf, nodename: "node-9" })).toMatchObject({ answer: { code: 7 } });
    expect(await call("ADD", "calico", { ...conf, datastore_type: "etcdv3" })).toMatchObject({ answer: { code: 2 } });
    expect(await call("ADD", "calico", conf)).toMatchObject({ exitCode: 0, answer: { cniVersion: "0.3.1" } });
    const [link] = JSON.parse(await onNode("ip", "-n", "calico", "-d", "-j", "link", "show", "eth0")) as object[];
    expect(link).toMatchObject({ mtu: 1400, num_tx_queues: 2, num_rx_queues: 2 });
    const forward = await onNode("ip", "netns", "exec", "calico", "cat", "/proc/sys/net/ipv4/ip_forward");
    expect(forward.trim()).toBe("1");
    expect(await call("DEL", "calico", conf)).toEqual(DONE);
    await onNode("ip", "netns", "delete", "calico");
  });

  test("CHECK names what is broken, in kernel and datastore", async () => {
    const prevResult = await attach("broken");
    await onNode("ip", "-n", "broken", "route", "del", "default");
    expect(await call("CHECK", "broken", { prevResult })).toMatchObject({
      exitCode: 1,
      answer: { code: 107, msg: expect.stringContaining("want 0.0.0.0/0 via 169.254.1.1") as string },
    });
    await onNode("ip", "-n", "broken", "route", "add", "default", "via", "169.254.1.1", "dev", "eth0");
    expect(await call("CHECK", "broken", { prevResult })).toEqual(DONE);
    const [block = ""] = (await ok(lab.kubectl(["get", "ipamblocks", "-o", "name"]))).trim().split("\n");
    const spec = JSON.parse(await ok(lab.kubectl(["get", block, "-o", "jsonpath={.spec}"]))) as {
      allocations: (number | null)[];
    };
    const ordinal = spec.allocations.findIndex((index) => index !== null);
    const path = `/spec/sequenceNumberForAllocation/${ordinal}`;
    const patch = JSON.stringify([{ op: "replace", path, value: 1 }]);
    await ok(lab.kubectl(["patch", block, "--type=json", "-p", patch]));
    expect(await call("CHECK", "broken", { prevResult })).toMatchObject({
      exitCode: 1,
      answer: { code: 107, msg: expect.stringContaining("since sequence number 1;") as string },
    });
    await call("DEL", "broken", {});
    await onNode("ip", "netns", "delete", "broken");
  });

  test("GC frees what is not listed, and an address that no record tells of, and leaves the rest", async () => {
    expect(await handleCount(), "the address that DEL could not give back, since its number had changed").toBe(1);
    const results = new Map<string, object>();
    for (const id of ["g1", "g2", "g3"]) results.set(id, await attach(id));
    const entry = (containerID: string): object => ({ containerID, ifname: "eth0" });
    expect(await call("GC", "", {})).toMatchObject({ exitCode: 1, answer: { code: 7 } });
    expect(await call("GC", "", { [VALID]: [entry("g2")] })).toEqual(DONE);
    const handles = await ok(lab.kubectl(["get", "ipamhandles", "-o", "jsonpath={.items[*].spec.block}"]));
    expect(handles.split(" ")).toHaveLength(1);
    expect(await call("CHECK", "g2", { prevResult: results.get("g2") })).toEqual(DONE);
    expect(await call("CHECK", "g1", { prevResult: results.get("g1") })).toMatchObject({ answer: { code: 107 } });
    expect(await call("GC", "", { [VALID]: [] })).toEqual(DONE);
    expect(await leftovers()).toEqual(NOTHING);
    for (const id of results.keys()) await onNode("ip", "netns", "delete", id);
  });

  test("STATUS is good, says 51 without a pool and 50 while the datastore is locked, and is good again", async () => {
    expect(await call("STATUS", "", {})).toEqual(DONE);
    const patch = (object: string, spec: object): Promise<string> =>
      ok(lab.kubectl(["patch", object, "--type=merge", "-p", JSON.stringify({ spec })]));
    const pools = (await ok(lab.kubectl(["get", "ippools", "-o", "name"]))).trim().split("\n");
    const becomes = (code: number | undefined): Promise<void> =>
      waitUntil(`STATUS ${code}`, async () => (await call("STATUS", "", {})).answer?.["code"] === code, 10_000);
    for (const pool of pools) await patch(pool, { disabled: true });
    await becomes(51);
    for (const pool of pools) await patch(pool, { disabled: false });
    await becomes(undefined);
    await patch("clusterinformation/default", { datastoreReady: false });
    await becomes(50);
    await patch("clusterinformation/default", { datastoreReady: true });
    await becomes(undefined);
  });
});

describe("without an API server", () => {
  test("STATUS is good for a minute, then 50, and good again when it is back", { timeout: 150_000 }, async () => {
    await lab.killAPIServer("SIGKILL");
    const start = performance.now();
    const codeNow = async (): Promise<unknown> => (await call("STATUS", "", {})).answer?.["code"];
    await waitUntil("STATUS 50", async () => (await codeNow()) === 50, 120_000);
    const tookMs = performance.now() - start;
    // The agent notices by a watch that breaks, so the minute begins when the server dies.
    expect(tookMs).toBeGreaterThan(55_000);
    expect(tookMs).toBeLessThan(75_000);
    await lab.startAPIServer();
    await waitUntil("STATUS good", async () => (await codeNow()) === undefined, 60_000);
  });
});

describe("without an agent", () => {
  test("STATUS is 50, CHECK and GC are 11, VERSION is answered, and all is well when it is back", async () => {
    const prevResult = await attach("alone");
    await lab.killAgent(NODE, "SIGKILL");
    expect(await call("STATUS", "", {})).toMatchObject({ exitCode: 1, answer: { code: 50 } });
    expect(await call("CHECK", "alone", { prevResult })).toMatchObject({ exitCode: 1, answer: { code: 11 } });
    expect(await call("GC", "", { [VALID]: [] })).toMatchObject({ exitCode: 1, answer: { code: 11 } });
    expect(await call("VERSION", "", {})).toMatchObject({ exitCode: 0, answer: { cniVersion: "1.1.0" } });
    await lab.startAgent(NODE);
    expect(await call("STATUS", "", {})).toEqual(DONE);
    expect(await call("CHECK", "alone", { prevResult })).toEqual(DONE);
    expect(await call("DEL", "alone", {})).toEqual(DONE);
    await onNode("ip", "netns", "delete", "alone");
  });
});

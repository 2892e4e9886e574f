// SPDX-License-Identifier: Apache-2.0
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LIMIT } from "../../src/lab/tour/bandwidth.ts";
import { ctr, type Machine, NODE_IP, startMachine, waitUntil } from "./support/containerd-machine.ts";
import { type CRIClient, connectCRI } from "./support/cri.ts";
import { BUSYBOX_IMAGE } from "./support/image.ts";
import { createPods } from "./support/pods.ts";
import { readmeConflist } from "./support/readme.ts";
import { kubectl, startStack } from "./support/stack.ts";
import { listTraces } from "./support/traces.ts";
import { measureTransfer, taskPid } from "./support/transfer.ts";

/** The real containerd executes the real configuration list on a machine in namespaces of its own. */

let machine: Machine;
let baseline: string;
const CONF = "/etc/cni/net.d/10-gingham.conflist";

beforeAll(async () => {
  machine = await startMachine();
  await startStack(machine);
  baseline = await listTraces(machine);
});
afterAll(() => machine.stop());

async function ping(from: (argv: readonly string[]) => Promise<{ exit_code: number; stdout: Buffer }>, ip: string) {
  const { exit_code, stdout } = await from(["ping", "-c", "2", "-i", "0.2", "-W", "2", ip]);
  return { exit_code, text: stdout.toString() };
}

describe("CRI, as kubelet uses it", () => {
  let cri: CRIClient;
  const pods: { id: string; ip: string; container: string }[] = [];

  beforeAll(async () => {
    writeFileSync(join(machine.root, CONF), readmeConflist());
    cri = connectCRI(machine.socket);
    await waitUntil("containerd to read the network configuration", () => cri.isNetworkReady(), 20_000);
    const configs = await createPods(machine, {
      web: { port_mappings: [{ container_port: 80, host_port: 8080 }] },
      slow: { annotations: { "kubernetes.io/ingress-bandwidth": "20M", "kubernetes.io/egress-bandwidth": "20M" } },
    });
    for (const config of configs) {
      const { id, ip } = await cri.runPod(config);
      const command = ["httpd", "-f", "-p", "80", "-h", "/www"];
      pods.push({ id, ip, container: await cri.runContainer(id, config, { image: BUSYBOX_IMAGE, command }) });
    }
  });
  afterAll(() => cri.close());

  test("RunPodSandbox gives each pod an address out of the node's block", async () => {
    const cidrs = await kubectl(machine, ["get", "ipamblocks", "-o", "jsonpath={.items[*].spec.cidr}"]);
    expect(cidrs.trim().split(" ")).toHaveLength(1);
    expect(new Set(pods.map(({ ip }) => ip)).size).toBe(2);
    const routes = await machine.runOk(["ip", "route", "show"]);
    expect(routes).toContain(`blackhole ${cidrs.trim()} proto 80`);
    for (const { ip } of pods)
      expect(routes).toMatch(new RegExp(`^${ip.replaceAll(".", "\\.")} dev cali[0-9a-f]{11} `, "m"));
  });

  test("two pods reach each other and their node", async () => {
    for (const [from, to] of [pods, pods.toReversed()]) {
      if (from === undefined || to === undefined) throw new Error("two pods are needed");
      const exec = (argv: readonly string[]) => cri.exec(from.container, argv);
      expect(await ping(exec, to.ip)).toMatchObject({
        exit_code: 0,
        text: expect.stringContaining(" 0% packet loss") as string,
      });
      expect(await ping(exec, NODE_IP)).toMatchObject({
        exit_code: 0,
        text: expect.stringContaining(" 0% packet loss") as string,
      });
    }
  });

  test("the node reaches its pods", async () => {
    await machine.runOk(["fping", "-q", "-c", "2", "-p", "50", ...pods.map(({ ip }) => ip)]);
  });

  test("a host port answers from outside of the node", async () => {
    const url = `http://${NODE_IP}:8080/`;
    const outside = ["ip", "netns", "exec", "outside", "timeout", "5", "busybox", "wget", "-qO-", url];
    expect(await machine.runOk(outside)).toBe("hello from the container\n");
  });

  test("the limit of a pod's annotation holds once its burst is spent", async () => {
    const [web, slow] = pods;
    if (web === undefined || slow === undefined) throw new Error("two pods are needed");
    const [fromPid, toPid] = await Promise.all(
      [web, slow].map(({ container }) => taskPid(machine, "k8s.io", container)),
    );
    if (fromPid === undefined || toPid === undefined) throw new Error("two tasks are needed");
    // The runtime allows a burst of 2^32 bits, so the measure begins when that has gone through.
    const way = { fromPid, toPid, toIP: slow.ip, skipMs: 4_000, durationMs: 7_000 };
    const { bitsPerSecond } = await measureTransfer(machine, way);
    expect(bitsPerSecond).toBeGreaterThan(0.7 * 20e6);
    expect(bitsPerSecond).toBeLessThan(1.05 * 20e6);
  });

  test("removal leaves no veth, route, handle or ordinal", async () => {
    for (const { id, container } of pods) await cri.removePod(id, [container]);
    await kubectl(machine, ["delete", "pods", "--all", "--wait=false"]);
    expect(await listTraces(machine)).toBe(baseline);
    rmSync(join(machine.root, CONF));
  });
});

describe("ctr run --cni, without Kubernetes", () => {
  const HOST_PORT = 8081;
  const containers: { readonly name: string; readonly ended: Promise<unknown> }[] = [];
  const ips = new Map<string, string>();

  /** ctr hands no runtime configuration over, so it stands in the file. */
  function renderStaticConflist(): string {
    const conflist = JSON.parse(readmeConflist()) as { plugins: { type: string }[] };
    const runtimeConfig: Readonly<Record<string, object>> = {
      portmap: { runtimeConfig: { portMappings: [{ hostPort: HOST_PORT, containerPort: 80, protocol: "tcp" }] } },
      bandwidth: {
        ingressRate: LIMIT.rateBits,
        ingressBurst: LIMIT.burstBits,
        egressRate: LIMIT.rateBits,
        egressBurst: LIMIT.burstBits,
      },
    };
    const plugins = conflist.plugins.map((plugin) => ({ ...plugin, ...runtimeConfig[plugin.type] }));
    return JSON.stringify({ ...conflist, plugins });
  }

  /** In the foreground, since in the background ctr never sends DEL. */
  async function startContainer(name: string): Promise<void> {
    const args = ["run", "--rm", "--cni", "--cgroup", `${machine.cgroup}/${name}`, BUSYBOX_IMAGE, name];
    const ended = ctr(machine, [...args, "httpd", "-f", "-p", "80", "-h", "/www"]);
    containers.push({ name, ended });
    await waitUntil(`the task ${name}`, async () => /\d/.test((await addressOf(name)) ?? ""), 20_000);
    ips.set(name, (await addressOf(name)) ?? "");
  }

  async function addressOf(name: string): Promise<string | undefined> {
    const { stdout } = await exec(name, ["ip", "-4", "-o", "addr", "show", "dev", "eth0"]);
    return / inet ([\d.]+)/.exec(stdout)?.[1];
  }

  function exec(name: string, argv: readonly string[]) {
    return ctr(machine, ["tasks", "exec", "--exec-id", `e${Math.random()}`, name, ...argv]);
  }

  beforeAll(async () => {
    writeFileSync(join(machine.root, CONF), renderStaticConflist());
    await startContainer("one");
    // The host port can have one container only.
    writeFileSync(
      join(machine.root, CONF),
      renderStaticConflist().replace(`"hostPort":${HOST_PORT}`, `"hostPort":${HOST_PORT + 1}`),
    );
    await startContainer("two");
  });

  test("two containers reach each other and their node", async () => {
    const [one = "", two = ""] = [ips.get("one"), ips.get("two")];
    expect(one).not.toBe(two);
    for (const [from, to] of [
      ["one", two],
      ["two", one],
      ["one", NODE_IP],
    ] as const) {
      const { exitCode, stdout } = await exec(from, ["ping", "-c", "2", "-i", "0.2", "-W", "2", to]);
      expect({ exitCode, stdout }).toMatchObject({
        exitCode: 0,
        stdout: expect.stringContaining(" 0% packet loss") as string,
      });
    }
  });

  test("their host ports answer", async () => {
    for (const port of [HOST_PORT, HOST_PORT + 1]) {
      const url = `http://${NODE_IP}:${port}/`;
      const outside = ["ip", "netns", "exec", "outside", "timeout", "5", "busybox", "wget", "-qO-", url];
      expect(await machine.runOk(outside)).toBe("hello from the container\n");
    }
  });

  test("the limit of the configuration holds", async () => {
    const fromPid = await taskPid(machine, "default", "one");
    const toPid = await taskPid(machine, "default", "two");
    const way = { fromPid, toPid, toIP: ips.get("two") ?? "", skipMs: 500, durationMs: 2_000 };
    const { bitsPerSecond } = await measureTransfer(machine, way);
    expect(bitsPerSecond).toBeGreaterThan(0.7 * LIMIT.rateBits);
    expect(bitsPerSecond).toBeLessThan(1.05 * LIMIT.rateBits);
  });

  test("removal leaves no veth, route, handle or ordinal", async () => {
    for (const { name } of containers) await ctr(machine, ["tasks", "kill", "--signal", "SIGKILL", name]);
    await Promise.all(containers.map(({ ended }) => ended));
    expect(await listTraces(machine)).toBe(baseline);
  });
});

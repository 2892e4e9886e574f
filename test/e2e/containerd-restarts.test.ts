// SPDX-License-Identifier: Apache-2.0
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { NETWORK_NAME, renderConflist } from "../../src/lab/cluster-objects.ts";
import { type Machine, startContainerd, startMachine, waitUntil } from "./support/containerd-machine.ts";
import { type CRIClient, connectCRI, type SandboxConfig } from "./support/cri.ts";
import { createPods } from "./support/pods.ts";
import { kubectl, startAgent, startStack } from "./support/stack.ts";
import { ATTACHMENTS, listFiles, listTraces, takenOrdinals } from "./support/traces.ts";

/** Many pods at once by the real containerd, which is killed under them; then the whole machine loses its power. */

const PODS = 50;
const KILLED_UNDER = 30;
const AFTER_REBOOT = 20;
/** libcni's, as containerd calls it. */
const RESULTS = "/var/lib/cni/results";

interface Pod {
  readonly id: string;
  readonly ip: string;
}

let machine: Machine;
let cri: CRIClient;
let baseline: string;
let configs: readonly SandboxConfig[];
let pods: readonly Pod[] = [];

beforeAll(async () => {
  machine = await startMachine();
  await startStack(machine);
  baseline = await listTraces(machine);
  writeFileSync(join(machine.root, "/etc/cni/net.d/10-gingham.conflist"), renderConflist());
  const names = Array.from({ length: PODS }, (_, index) => [`pod-${index}`, {}]);
  configs = await createPods(machine, Object.fromEntries(names) as Record<string, object>);
  await connect();
});
afterAll(async () => {
  cri?.close();
  await machine?.stop();
});

async function connect(): Promise<void> {
  cri?.close();
  cri = connectCRI(machine.socket);
  await waitUntil("containerd to read the network configuration", () => cri.isNetworkReady(), 20_000);
}

/** Of processes on the machine, by pid: name and command line. */
async function listProcesses(): Promise<
  readonly { readonly pid: string; readonly name: string; readonly args: string }[]
> {
  const text = await machine.runOk(["ps", "-e", "-o", "pid=,comm=,args="]);
  return text
    .trim()
    .split("\n")
    .map((line) => /^\s*(\d+)\s+(\S+)\s+(.*)$/.exec(line))
    .map((match) => ({ pid: match?.[1] ?? "", name: match?.[2] ?? "", args: match?.[3] ?? "" }));
}

async function killContainerd(): Promise<void> {
  const pids = (await listProcesses()).filter(({ name }) => name === "containerd").map(({ pid }) => pid);
  expect(pids).toHaveLength(1);
  await machine.runOk(["kill", "-KILL", ...pids]);
  await waitUntil("containerd to end", async () => (await containerdCount()) === 0, 5000);
}

async function containerdCount(): Promise<number> {
  return (await listProcesses()).filter(({ name }) => name === "containerd").length;
}

/** From the node to each pod, and from the first pod to each. */
async function expectAllAnswer(of: readonly Pod[]): Promise<void> {
  const [first] = of;
  if (first === undefined) throw new Error("there is no pod");
  const fping = ["fping", "-q", "-c", "2", "-p", "50", ...of.map(({ ip }) => ip)];
  await machine.runOk(fping);
  await machine.runOk(["nsenter", `--net=${await netnsOf(first)}`, "--", ...fping]);
}

async function netnsOf({ ip }: Pod): Promise<string> {
  const names = readdirSync(join(machine.root, "/run/netns")).filter((name) => name.startsWith("cni-"));
  for (const name of names) {
    const path = `/run/netns/${name}`;
    // A sandbox that was replaced has no eth0.
    const { stdout } = await machine.run(["nsenter", `--net=${path}`, "--", "ip", "-4", "-o", "addr", "show", "eth0"]);
    if (stdout.includes(` ${ip}/`)) return path;
  }
  throw new Error(`no namespace has ${ip}`);
}

/** At once; but what a busy API server made wait, a sweep does. */
async function expectNothingLeft(): Promise<void> {
  const isBare = async (): Promise<boolean> => (await listTraces(machine)) === baseline;
  await waitUntil("what DELs had to leave", isBare, 40_000).catch(() => {});
  expect(await listTraces(machine)).toBe(baseline);
}

const startAll = (of: readonly SandboxConfig[]): Promise<readonly Pod[]> =>
  Promise.all(of.map((config) => cri.runPod(config)));
/** What kubelet asks for when a sandbox was lost. */
const nextAttempt = (of: readonly SandboxConfig[]): readonly SandboxConfig[] =>
  of.map(({ metadata, ...rest }) => ({ ...rest, metadata: { ...metadata, attempt: metadata.attempt + 1 } }));
const removeAll = (of: readonly Pod[]): Promise<unknown> => Promise.all(of.map(({ id }) => cri.removePod(id, [])));

test(`${PODS} RunPodSandbox at once have ${PODS} addresses, and all answer`, async () => {
  pods = await startAll(configs);
  expect(new Set(pods.map(({ ip }) => ip)).size).toBe(PODS);
  expect(await takenOrdinals(machine)).toHaveLength(PODS);
  const files = await listFiles(machine);
  for (const folder of [`${ATTACHMENTS}/${NETWORK_NAME}`, `${RESULTS}/${NETWORK_NAME}-`])
    expect(files.filter((file) => file.startsWith(folder))).toHaveLength(PODS);
  await expectAllAnswer(pods);
});

test("pods live on while containerd is killed and comes back", async () => {
  await killContainerd();
  await expectAllAnswer(pods);
  await startContainerd(machine);
  await connect();
  await expectAllAnswer(pods);
  const [first] = pods;
  const status = await cri.call("PodSandboxStatus", { pod_sandbox_id: first?.id });
  expect(status).toMatchObject({ status: { state: 0, network: { ip: first?.ip } } });
});

test("the DEL after that brings the result that libcni had kept on disk", async () => {
  const [first, ...rest] = pods;
  if (first === undefined) throw new Error("there is no pod");
  const cached = join(machine.root, RESULTS, `${NETWORK_NAME}-${first.id}-eth0`);
  expect(JSON.parse(readFileSync(cached, "utf8"))).toMatchObject({ result: { ips: [{ address: `${first.ip}/32` }] } });
  await machine.runOk(["mv", "/opt/cni/bin/gingham", "/opt/cni/bin/gingham-real"]);
  const spy = `#!/bin/sh\ntee -a /run/stack/stdin-$CNI_COMMAND-\${CNI_NETNS:+netns} | exec /opt/cni/bin/gingham-real\n`;
  await machine.runOk(["sh", "-c", "cat > /opt/cni/bin/gingham; chmod 755 /opt/cni/bin/gingham"], { input: spy });
  await cri.removePod(first.id, []);
  await machine.runOk(["mv", "-f", "/opt/cni/bin/gingham-real", "/opt/cni/bin/gingham"]);
  const seen: unknown = JSON.parse(readFileSync(join(machine.root, "/run/stack/stdin-DEL-netns"), "utf8"));
  expect(seen).toMatchObject({ name: NETWORK_NAME, prevResult: { ips: [{ address: `${first.ip}/32` }] } });
  expect(existsSync(cached)).toBe(false);
  expect(await takenOrdinals(machine)).toHaveLength(PODS - 1);
  pods = rest;
});

test("a DEL without the result, which somebody has deleted, frees the pod as well", async () => {
  const [first, ...rest] = pods;
  if (first === undefined) throw new Error("there is no pod");
  await machine.runOk(["rm", `${RESULTS}/${NETWORK_NAME}-${first.id}-eth0`]);
  await cri.removePod(first.id, []);
  expect(await takenOrdinals(machine)).toHaveLength(rest.length);
  expect(await machine.runOk(["ip", "route", "show"])).not.toContain(`${first.ip} dev`);
  pods = rest;
});

test("StopPodSandbox and RemovePodSandbox of all at once leave no veth, route, handle, ordinal or file", async () => {
  await removeAll(pods);
  await expectNothingLeft();
});

test("a containerd that is killed while it makes pods, and makes them again: the new ones stay, the forgotten ones go", {
  timeout: 150_000,
}, async () => {
  const some = configs.slice(0, KILLED_UNDER);
  const made = some.map((config) =>
    cri
      .runPod(config)
      .then(() => true)
      .catch(() => false),
  );
  const recordCount = async (): Promise<number> =>
    (await listFiles(machine)).filter((file) => file.startsWith(ATTACHMENTS)).length;
  await waitUntil("the first pods to have addresses", async () => (await recordCount()) >= 5, 20_000);
  await killContainerd();
  expect(await Promise.all(made)).toContain(false);
  await startContainerd(machine);
  await connect();
  const again = await startAll(nextAttempt(some));
  expect(new Set(again.map(({ ip }) => ip)).size).toBe(KILLED_UNDER);
  expect((await takenOrdinals(machine)).length).toBeGreaterThan(KILLED_UNDER);
  await expectAllAnswer(again);

  // The agent's next sweep, at most 20 s later.
  const isSwept = async (): Promise<boolean> => (await recordCount()) === KILLED_UNDER;
  await waitUntil("the agent to give back what nobody has any more", isSwept, 40_000);
  expect(await takenOrdinals(machine)).toHaveLength(KILLED_UNDER);
  await expectAllAnswer(again);

  // With those of the first attempt that containerd has not forgotten.
  await Promise.all((await cri.listPods()).map((id) => cri.removePod(id, [])));
  // Of those that it has, it leaves the namespaces, and libcni its results.
  await machine.runOk([
    "sh",
    "-c",
    `for it in /run/netns/cni-*; do umount $it 2> /dev/null; rm -f $it; done; rm -f ${RESULTS}/*`,
  ]);
  await expectNothingLeft();
});

test("a machine that lost its power frees the addresses of its dead pods, and starts them anew", async () => {
  const some = configs.slice(0, AFTER_REBOOT);
  const dead = await startAll(some);
  expect(await takenOrdinals(machine)).toHaveLength(AFTER_REBOOT);
  await losePower();
  const startedMs = performance.now();
  await startAgent(machine);
  // Nobody has sent a DEL: containerd is not there yet.
  const isFree = async (): Promise<boolean> => (await takenOrdinals(machine)).length === 0;
  await waitUntil("the agent to free the addresses of dead pods", isFree, 60_000);
  console.info(
    `${AFTER_REBOOT} addresses were free ${Math.round(performance.now() - startedMs)} ms after the agent's start`,
  );

  await startContainerd(machine);
  await connect();
  // As kubelet does: the next attempt of each pod, then the old sandboxes' removal.
  const again = await startAll(nextAttempt(some));
  expect(new Set(again.map(({ ip }) => ip)).size).toBe(AFTER_REBOOT);
  await expectAllAnswer(again);
  await removeAll(dead);
  await expectAllAnswer(again);
  expect(await takenOrdinals(machine)).toHaveLength(AFTER_REBOOT);
  await removeAll(again);
  await kubectl(machine, ["delete", "pods", "--all", "--wait=false"]);
  await expectNothingLeft();
});

/**
 * What a power failure does, as far as one kernel can show it: every process ends without a word (but the API server, which
 * stands for another machine), what is in memory is gone, disks stay, and the next boot has an ID of its own.
 */
async function losePower(): Promise<void> {
  const stays = ({ pid, name, args }: { pid: string; name: string; args: string }): boolean =>
    pid === "1" || ["ps", "sleep"].includes(name) || args.includes("apiserver.mjs");
  const pids = (await listProcesses()).filter((process) => !stays(process)).map(({ pid }) => pid);
  expect(pids.length).toBeGreaterThan(2 * AFTER_REBOOT);
  await machine.runOk(["sh", "-c", 'kill -KILL "$@" || true', "sh", ...pids]);
  await machine.runOk([
    "sh",
    "-euc",
    `for netns in /run/netns/cni-*; do umount $netns; rm $netns; done
    grep -o ' /run/containerd/[^ ]*' /proc/mounts | sort -r | xargs -r umount -l
    rm -rf /run/containerd /run/gingham /run/xtables.lock
    nft flush ruleset
    cat /proc/sys/kernel/random/uuid > /run/stack/boot_id
    mount --bind /run/stack/boot_id /proc/sys/kernel/random/boot_id`,
  ]);
  const isBare = async (): Promise<boolean> => !(await machine.runOk(["ip", "-o", "link"])).includes("cali");
  await waitUntil("the kernel to end the namespaces", isBare, 10_000);
  await machine.runOk(["ip", "route", "flush", "proto", "80"]);
}

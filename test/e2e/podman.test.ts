// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { NETWORK_NAME } from "../../src/lab/cluster-objects.ts";
import { type Machine, NODE_IP, startMachine } from "./support/containerd-machine.ts";
import { BUSYBOX_IMAGE, buildBusyboxImage } from "./support/image.ts";
import { readmeConflist, readmePodmanNetwork } from "./support/readme.ts";
import { ROOT, startStack } from "./support/stack.ts";
import { listTraces, takenOrdinals } from "./support/traces.ts";

/** podman in its CNI mode: containers whose CNI_ARGS name a pod but no namespace, and no Kubernetes knows of them. */

/** Where scripts/setup.mjs unpacks podman. */
const UNPACKED = join(ROOT, "node_modules/.debian");
const LIBRARIES = join(UNPACKED, "usr/lib", process.arch === "x64" ? "x86_64-linux-gnu" : "aarch64-linux-gnu");
const HOST_PORT = 8090;

let machine: Machine;
/** Where the image is made. podman's own files vanish with the machine. */
let dir: string;
let baseline: string;

beforeAll(async () => {
  if (!existsSync(join(UNPACKED, "usr/bin/podman")))
    throw new Error(`podman is missing in ${UNPACKED}: node scripts/setup.mjs test`);
  dir = mkdtempSync(join(tmpdir(), "gingham-podman-"));
  machine = await startMachine();
  await startStack(machine);
  baseline = await listTraces(machine);
  const files = {
    "cni/net.d/10-gingham.conflist": readmeConflist(),
    "containers/policy.json": '{"default":[{"type":"insecureAcceptAnything"}]}',
    // Not overlay: the machine's /var/lib is one itself.
    "containers/storage.conf": `[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
`,
    "containers/containers.conf": `${readmePodmanNetwork()}
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "none"
conmon_path = ["${UNPACKED}/usr/bin/conmon"]
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
log_driver = "k8s-file"
`,
  };
  mkdirSync(join(machine.root, "/etc/containers"), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(machine.root, "/etc", name), text);
  await podman("load", "--input", await buildBusyboxImage(dir));
});
afterAll(async () => {
  await machine?.stop();
  if (dir !== undefined) rmSync(dir, { recursive: true, force: true });
});

/** @returns what it prints @throws Error with podman's words when it fails */
async function podman(...args: readonly string[]): Promise<string> {
  const libraries = `LD_LIBRARY_PATH=${LIBRARIES}`;
  return (await machine.runOk(["env", libraries, join(UNPACKED, "usr/bin/podman"), ...args])).trim();
}

async function start(name: string, ...flags: readonly string[]): Promise<string> {
  const place = ["--detach", "--name", name, "--network", NETWORK_NAME, "--cgroup-parent", machine.cgroup];
  // Without it there is no ping where Debian's containers-common is installed.
  await podman(
    "run",
    ...place,
    "--cap-add",
    "NET_RAW",
    ...flags,
    BUSYBOX_IMAGE,
    "httpd",
    "-f",
    "-p",
    "80",
    "-h",
    "/www",
  );
  return addressOf(name);
}

function addressOf(name: string): Promise<string> {
  return podman("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name);
}

test("containers reach each other, the node reaches them, and a published port answers from outside", async () => {
  expect(await podman("info", "--format", "{{.Host.NetworkBackend}}")).toBe("cni");
  const web = await start("web", "--publish", `${HOST_PORT}:80`);
  const other = await start("other");
  expect(new Set([web, other, ""]).size).toBe(3);
  await machine.runOk(["fping", "-q", "-c", "2", "-p", "50", web, other]);
  for (const [from, to] of [
    ["web", other],
    ["other", web],
    ["other", NODE_IP],
  ] as const)
    expect(await podman("exec", from, "ping", "-c", "2", "-i", "0.2", "-W", "2", to)).toContain(" 0% packet loss");
  const url = `http://${NODE_IP}:${HOST_PORT}/`;
  const outside = ["ip", "netns", "exec", "outside", "timeout", "5", "busybox", "wget", "-qO-", url];
  expect(await machine.runOk(outside)).toBe("hello from the container\n");
});

test("a container that is started again has its network again, and no second address", async () => {
  await podman("restart", "--time", "0", "other");
  expect(await takenOrdinals(machine)).toHaveLength(2);
  const to = await addressOf("web");
  expect(await podman("exec", "other", "ping", "-c", "2", "-i", "0.2", "-W", "2", to)).toContain(" 0% packet loss");
});

test("podman rm leaves no veth, route, handle, ordinal or file", async () => {
  await podman("rm", "--force", "--time", "0", "web", "other");
  expect(await listTraces(machine)).toBe(baseline);
});

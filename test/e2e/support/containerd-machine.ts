// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { widenPath } from "../../../src/lab/host-requirements.ts";
import { enterLabArgv, sandboxArgv } from "../../../src/lab/namespaces.ts";
import { type RunOptions, type RunResult, run } from "../../../src/lab/run.ts";
import { LAB_DIR, renderSandboxScript, untilReady } from "../../../src/lab/topology.ts";
import { BUSYBOX_IMAGE, buildBusyboxImage } from "./image.ts";

export const NODE_NAME = "machine";
/** The machine's address on the cable to `outside`, a namespace that stands for the rest of the world. */
export const NODE_IP = "172.31.0.1";

/** A machine in namespaces of its own that runs the real containerd. */
export interface Machine {
  /** containerd's socket, as the host sees it. */
  readonly socket: string;
  /** Parent of all cgroups that the test makes. */
  readonly cgroup: string;
  /** The machine's file system, as the host sees it: put this before a path. */
  readonly root: string;
  run(argv: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** @throws Error with the program's words when it fails */
  runOk(argv: readonly string[], options?: RunOptions): Promise<string>;
  /** Starts a daemon whose outputs go to `${name}.log`. It ends with the machine. */
  start(name: string, argv: readonly string[], env?: Readonly<Record<string, string>>): Promise<void>;
  log(name: string): string;
  stop(): Promise<void>;
}

const CONTAINERD_STATE = "/run/containerd";
const CONTAINERD_SOCKET = `${CONTAINERD_STATE}/containerd.sock`;
const CONTAINERD_CONFIG = "/etc/containerd/config.toml";

export async function startMachine(): Promise<Machine> {
  const dir = mkdtempSync(join(tmpdir(), "gingham-containerd-"));
  const cgroup = dir.slice(dir.lastIndexOf("/"));
  const env = { ...process.env, PATH: widenPath(process.env["PATH"]) };
  const [unshare = "", ...flags] = sandboxArgv({ rootless: false });
  const child = spawn(unshare, [...flags, "sh", "-euc", renderMachineScript()], {
    stdio: ["ignore", "pipe", "pipe"],
    env,
  });
  await untilReady(child, "the machine");
  const pid = Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim());
  const enter = enterLabArgv(pid, { rootless: false });
  const root = `/proc/${pid}/root`;

  const machine: Machine = {
    socket: join(root, CONTAINERD_SOCKET),
    cgroup,
    root,
    run: (argv, options) => run([...enter, ...argv], { env, ...options }),
    async runOk(argv, options) {
      const { exitCode, stdout, stderr } = await machine.run(argv, options);
      if (exitCode !== 0) throw new Error(`${argv.join(" ")} exited with ${exitCode}: ${stderr}${stdout}`);
      return stdout;
    },
    async start(name, argv, extra = {}) {
      const script = `exec "$@" >> ${LAB_DIR}/logs/${name}.log 2>&1 < /dev/null`;
      const daemon = spawn(enter[0] ?? "", [...enter.slice(1), "sh", "-c", script, "sh", ...argv], {
        stdio: "ignore",
        env: { ...env, ...extra },
      });
      await new Promise((resolve, reject) => daemon.once("spawn", () => resolve(undefined)).once("error", reject));
    },
    log: (name) => readFileSync(join(root, LAB_DIR, "logs", `${name}.log`), "utf8"),
    async stop() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
      await removeCgroups(cgroup);
      rmSync(dir, { recursive: true, force: true });
    },
  };
  try {
    await setUpContainerd(machine, dir);
    return machine;
  } catch (error) {
    await machine.stop();
    throw error;
  }
}

/**
 * There is no default route, as on a machine of its own: the agent sees to it that pods have their gateway all the same.
 * The shell stays as process 1, and waits for orphans such as the shims that have ended.
 */
function renderMachineScript(): string {
  return `
    ${renderSandboxScript()}
    mkdir -p /run/netns /run/lock
    ln -s /usr/lib/cni/* /opt/cni/bin/
    ip netns add outside
    ip link add cable type veth peer name eth0 netns outside
    ip addr add ${NODE_IP}/24 dev cable
    ip link set cable up
    ip -n outside addr add 172.31.0.2/24 dev eth0
    ip -n outside link set eth0 up
    ip -n outside route add default via ${NODE_IP}
    echo 1 > /proc/sys/net/ipv4/ip_forward
    echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
    echo ready
    while :; do sleep 1 & wait; done`;
}

/** containerd's own files are in `dir`, on the host's disk: overlayfs cannot lie on the machine's /var/lib, itself an overlay. */
async function setUpContainerd(machine: Machine, dir: string): Promise<void> {
  const config = `version = 2
root = "${dir}/root"
state = "${CONTAINERD_STATE}"
[grpc]
  address = "${CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  sandbox_image = "${BUSYBOX_IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
`;
  mkdirSync(join(dir, "root"));
  mkdirSync(join(machine.root, dirname(CONTAINERD_CONFIG)), { recursive: true });
  writeFileSync(join(machine.root, CONTAINERD_CONFIG), config);
  await startContainerd(machine);
  const image = await buildBusyboxImage(dir);
  await machine.runOk(["ctr", "-a", CONTAINERD_SOCKET, "-n", "k8s.io", "images", "import", image]);
  await machine.runOk(["ctr", "-a", CONTAINERD_SOCKET, "images", "import", image]);
}

/** Starts containerd, or starts it again after its end, and waits until it answers. */
export async function startContainerd(machine: Machine): Promise<void> {
  await machine.start("containerd", ["containerd", "--config", CONTAINERD_CONFIG]);
  await waitUntil("containerd to answer", async () => (await ctr(machine, ["version"])).exitCode === 0, 20_000);
}

export function ctr(machine: Machine, args: readonly string[]): Promise<RunResult> {
  return machine.run(["ctr", "-a", CONTAINERD_SOCKET, ...args]);
}

/** Asks every 50 ms. @throws Error when the time is over */
export async function waitUntil(what: string, ask: () => Promise<boolean>, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await ask())) {
    if (performance.now() > deadline) throw new Error(`Waited ${timeoutMs} ms in vain for ${what}`);
    await sleep(50);
  }
}

/**
 * runc leaves its cgroups when it is killed, and only directories can be removed there. They are empty in a moment: the
 * kernel ends the machine's processes after its first one, so some are still there when that has gone.
 */
async function removeCgroups(name: string): Promise<void> {
  const trees = readdirSync("/sys/fs/cgroup").map((hierarchy) => join("/sys/fs/cgroup", hierarchy, name));
  await waitUntil(`${name} to be removed from /sys/fs/cgroup`, async () => trees.every(tryRemoveTree), 10_000);
}

/** @returns false when a process is still in it */
function tryRemoveTree(dir: string): boolean {
  if (!existsSync(dir)) return true;
  try {
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (entry.isDirectory() && !tryRemoveTree(join(dir, entry.name))) return false;
    }
    rmdirSync(dir);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EBUSY") return false;
    throw error;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { widenPath } from "../../../src/lab/host-requirements.ts";
import { type RunResult, run, runOk } from "../../../src/lab/run.ts";
import { untilReady } from "../../../src/lab/topology.ts";
import { installedObject } from "./rights.ts";

const ROOT = join(import.meta.dirname, "../../..");
const env = { ...process.env, PATH: widenPath(process.env["PATH"]) };

/** Of the one node: on a link that leads nowhere. */
export const NODE = { name: "node-1", ip: "172.29.9.11" } as const;
export const CONF_DIR = "/etc/cni/net.d";
export const BIN_DIR = "/opt/cni/bin";

/** A process in the host, until it is stopped. */
export interface Started {
  log(): string;
  stop(): Promise<void>;
}

/** A host as a cluster's node: what is mounted, and its first process, are its own. Nothing of it is seen outside. */
export interface InstallHost {
  sh(script: string): Promise<RunResult>;
  /** @returns stdout. Errors: the script failed */
  ok(script: string): Promise<string>;
  /** Starts a program as the DaemonSet's container of that name would: with its variables, and mounts of its own that follow the host's. */
  container(name: "install" | "agent", argv: readonly string[]): Started & { ended: Promise<number | null> };
  start(argv: readonly string[]): Started & { ended: Promise<number | null> };
  stop(): Promise<void>;
}

/** `/opt` and `/etc` are the host's own; whatever is written there is gone with it. */
const SCRIPT = `
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/netns /run/lock /run/etc/up /run/etc/work /run/log
  mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/up,workdir=/run/etc/work overlay /etc
  for dir in /opt /var/lib /root; do mount -t tmpfs -o mode=755 tmpfs $dir; done
  mkdir -p ${CONF_DIR} ${BIN_DIR}
  mount -t tmpfs -o size=256k,mode=755 tmpfs ${CONF_DIR}
  mount -t sysfs sysfs /sys
  hostname ${NODE.name}
  ip link set lo up
  ip link add eth0 type veth peer name wire; ip link set wire up
  ip addr add ${NODE.ip}/24 dev eth0
  ip link set eth0 up
  ip route add default via 172.29.9.1
  mount --make-rshared /
  echo ready
  exec sleep infinity`;

export async function startInstallHost(): Promise<InstallHost> {
  const dir = mkdtempSync(join(tmpdir(), "gingham-host-"));
  const flags = ["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const outer = spawn("unshare", [...flags, "sh", "-euc", SCRIPT], { stdio: ["ignore", "pipe", "pipe"], env });
  await untilReady(outer, "the host");
  const pid = readFileSync(`/proc/${outer.pid}/task/${outer.pid}/children`, "utf8").trim();
  const enter = ["nsenter", "--target", pid, "--mount", "--net", "--uts", "--ipc", "--pid", "--"];
  let count = 0;
  const start = (argv: readonly string[], more: Readonly<Record<string, string>> = {}) =>
    startIn(enter, argv, { ...env, ...more }, join(dir, `${count++}.log`));
  return {
    sh: (script) => run([...enter, "sh", "-euc", script], { env }),
    ok: (script) => runOk([...enter, "sh", "-euc", script], { env }),
    start: (argv) => start(argv),
    container: (name, argv) =>
      // HostToContainer, and a folder of plugins that is not the host's: what is executed of it is executed over there.
      start(["unshare", "--mount", "--propagation", "slave", ...argv], variablesOf(name)),
    stop: async () => {
      const ended = new Promise((resolve) => outer.once("exit", resolve));
      outer.kill("SIGKILL");
      await ended;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Of the DaemonSet; NODENAME and the API server's address come from Kubernetes. */
function variablesOf(name: string): Readonly<Record<string, string>> {
  const { template } = installedObject("DaemonSet")["spec"] as { template: PodTemplate };
  const containers = [...(template.spec["initContainers"] ?? []), ...(template.spec["containers"] ?? [])];
  const variables = containers.find((container) => container.name === name)?.env ?? [];
  const given = variables.flatMap(({ name: key, value }) => (value === undefined ? [] : [[key, value] as const]));
  return { ...Object.fromEntries(given), NODENAME: NODE.name, KUBECONFIG: "/run/kubeconfig" };
}

interface PodTemplate {
  readonly spec: Readonly<Record<string, readonly Container[]>>;
}

interface Container {
  readonly name: string;
  readonly env: readonly { readonly name: string; readonly value?: string }[];
}

function startIn(
  enter: readonly string[],
  argv: readonly string[],
  variables: NodeJS.ProcessEnv,
  logPath: string,
): Started & { ended: Promise<number | null> } {
  const [command = "", ...args] = enter;
  writeFileSync(logPath, "");
  const script = `exec "$@" > ${logPath} 2>&1`;
  // The log lies outside: nsenter has opened it before it enters.
  const child: ChildProcess = spawn("sh", ["-c", script, "sh", command, ...args, ...argv], {
    stdio: "ignore",
    env: variables,
    cwd: ROOT,
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  return {
    ended,
    log: () => readFileSync(logPath, "utf8"),
    stop: async () => {
      // nsenter forks to enter the PID namespace, and hands no signal on.
      const inner = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim();
      if (inner !== "") process.kill(Number(inner), "SIGTERM");
      await ended;
    },
  };
}

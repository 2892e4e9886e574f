// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Family } from "../net/ip.ts";
import { LabError } from "./errors.ts";
import { type SegmentIP, segmentIPs } from "./families.ts";
import { enterNodeArgv, holderArgv } from "./namespaces.ts";
import { runOk, runScript } from "./run.ts";

/** The laboratory's own files: logs, database, credentials. On a tmpfs of its own. */
export const LAB_DIR = "/run/gingham-lab";
/** Where the node's agent and its plugins expect their things; each node has all of these for itself. */
const NODE_DIRS = [
  "/var/lib/gingham",
  "/var/lib/cni",
  "/etc/cni/net.d",
  "/etc/gingham",
  "/opt/cni/bin",
  "/var/log/gingham",
];
export const CNI_BIN_DIR = "/opt/cni/bin";
export const CNI_CONF_DIR = "/etc/cni/net.d";
const DEBIAN_PLUGINS = "/usr/lib/cni";

/** A machine of the laboratory: namespaces that a process keeps. */
export interface LabNode {
  readonly name: string;
  /** One of each of the laboratory's families, in their order. */
  readonly ips: readonly SegmentIP[];
  /** The process that keeps the namespaces, as the laboratory counts. */
  readonly holderPid: number;
  /** The node's file system as the laboratory sees it: put this before a path of the node. */
  readonly root: string;
}

/** The folders of programs that this machine may have, too. */
const OWN_FOLDERS = ["/var/lib/gingham", "/var/lib/cni", "/etc/cni", "/etc/gingham", "/opt/cni", "/var/log/gingham"];

/**
 * Gives the sandbox a /run of its own, and mount points for what nodes have for themselves. The overlays are there
 * because a plain machine has no /etc/cni or /opt/cni, and nothing on it may change. What this machine has of them is
 * covered: an ordinary user may not even look into a folder of root's.
 */
export function renderSandboxScript(): string {
  const overlays = ["/etc", "/opt", "/var/lib", "/var/log"].map((dir) => {
    const layer = `${LAB_DIR}/overlay${dir}`;
    return `mkdir -p ${layer}/upper ${layer}/work
      mount -t overlay overlay -o lowerdir=${dir},upperdir=${layer}/upper,workdir=${layer}/work ${dir}`;
  });
  return `
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p ${LAB_DIR}/logs
    ${overlays.join("\n")}
    for folder in ${OWN_FOLDERS.join(" ")}; do [ ! -e $folder ] || mount -t tmpfs -o mode=755 tmpfs $folder; done
    mkdir -p ${NODE_DIRS.join(" ")}
    ip link set lo up`;
}

/** Prepares the sandbox for nodes, with the segment that joins them. */
export async function setUpSandbox(families: readonly Family[] = [4]): Promise<void> {
  await runScript(`
    ${renderSandboxScript()}
    mount -t sysfs sysfs /sys
    ip link add segment type bridge
    ${renderAddrs(segmentIPs(families), "segment")}
    ip link set segment up`);
}

/** Without duplicate address detection, which would keep every IPv6 address, the link-local one too, from use for 2 s. */
function renderAddrs(ips: readonly SegmentIP[], link: string): string {
  const add = ips.map(
    ({ family, ip, prefixLength }) => `ip addr add ${ip}/${prefixLength} dev ${link}${family === 6 ? " nodad" : ""}`,
  );
  const isV6 = ips.some(({ family }) => family === 6);
  return [...(isV6 ? [`echo 0 > /proc/sys/net/ipv6/conf/${link}/accept_dad`] : []), ...add].join("\n");
}

/** Makes one node: namespaces, private directories, the plugins, and its leg on the segment. */
export async function createNode(name: string, ips: readonly SegmentIP[], launcher: string): Promise<LabNode> {
  const holderPid = await startHolder(name, launcher);
  await runScript(`
    ip link add ${name} type veth peer name eth0 netns /proc/${holderPid}/ns/net
    ip link set ${name} master segment up`);
  const families = ips.map(({ family }) => family);
  const script = [
    renderAddrs(ips, "eth0"),
    "ip link set eth0 up",
    ...segmentIPs(families).map(({ ip }) => `ip route add default via ${ip}`),
  ].join("\n");
  await runOk([...enterNodeArgv(holderPid), "sh", "-euc", script]);
  return { name, ips, holderPid, root: `/proc/${holderPid}/root` };
}

async function startHolder(name: string, launcher: string): Promise<number> {
  const script = `
    hostname ${name}
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/netns /run/lock
    for dir in ${NODE_DIRS.join(" ")}; do mount -t tmpfs -o mode=755 tmpfs $dir; done
    mount -t sysfs sysfs /sys
    ln -s ${DEBIAN_PLUGINS}/* ${CNI_BIN_DIR}/
    if [ -e ${launcher} ]; then install -m 755 ${launcher} ${CNI_BIN_DIR}/gingham; fi
    ln -s gingham ${CNI_BIN_DIR}/gingham-ipam
    ip link set lo up
    echo 1 > /proc/sys/net/ipv4/ip_forward
    echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
    echo ready
    exec sleep infinity`;
  const [command = "", ...args] = holderArgv(script);
  const holder = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  holder.unref();
  await untilReady(holder, `node ${name}`);
  if (holder.pid === undefined) throw new LabError("NodeFailed", `Cannot make node ${name}: ${command} did not start`);
  return holder.pid;
}

/** Resolves when the child writes its first line; rejects with what it said when it ends before. */
export async function untilReady(child: ChildProcess, what: string): Promise<void> {
  const { stdout, stderr } = child;
  if (stdout === null) throw new LabError("NotStarted", `Cannot watch ${what}: it has no stdout`);
  const said: string[] = [];
  stderr?.on("data", (chunk: Buffer) => said.push(chunk.toString()));
  const ended = new AbortController();
  const failed = once(child, "close", { signal: ended.signal }).then(([code]) => {
    throw new LabError("NotStarted", `${what} ended with ${String(code)} before it was ready: ${said.join("").trim()}`);
  });
  await Promise.race([once(stdout, "data", { signal: ended.signal }), failed]).finally(() => {
    // The loser of the race must not reject later, when nobody listens.
    failed.catch(() => {});
    ended.abort();
  });
  stdout.resume();
}

// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { widenPath } from "../../../src/lab/host-requirements.ts";
import { enterLabArgv, holderArgv, sandboxArgv } from "../../../src/lab/namespaces.ts";
import { type RunOptions, type RunResult, run, runOk } from "../../../src/lab/run.ts";
import { renderSandboxScript, untilReady } from "../../../src/lab/topology.ts";

const ROOT = join(import.meta.dirname, "../../..");
const env = { ...process.env, PATH: widenPath(process.env["PATH"]) };

/** What each machine has for itself. */
const PRIVATE = ["/run", "/var/lib/gingham", "/var/lib/cni", "/etc/gingham", "/etc/cni/net.d", "/opt/cni/bin"];

/** A machine with the release unpacked on it, whose units this test starts in systemd's stead. */
export interface Machine {
  readonly name: string;
  readonly ip: string;
  sh(script: string, options?: RunOptions): Promise<RunResult>;
  /** @returns stdout. Errors: the script failed */
  ok(script: string): Promise<string>;
  /** Does what the unit's file says: environment, files with environment, ExecStart. */
  startUnit(unit: string): Promise<Daemon>;
}

export interface Daemon {
  readonly log: () => string;
  stop(): Promise<void>;
}

export interface Machines {
  readonly machines: readonly Machine[];
  stop(): Promise<void>;
}

/** Machines m1, m2, … on one segment, with the release in place of their /usr and /opt/cni/bin. */
export async function startMachines(count: number): Promise<Machines> {
  const dir = mkdtempSync(join(tmpdir(), "gingham-machines-"));
  const stage = join(dir, "stage");
  await runOk([process.execPath, join(ROOT, "scripts/release.ts"), "--stage", stage]);
  const [command = "", ...flags] = sandboxArgv({ rootless: false });
  const sandbox = spawn(command, [...flags, "sh", "-euc", renderSandbox(stage)], {
    stdio: ["ignore", "pipe", "pipe"],
    env,
  });
  const stop = async (): Promise<void> => {
    const ended = new Promise((resolve) => sandbox.once("exit", resolve));
    sandbox.kill("SIGKILL");
    await ended;
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await untilReady(sandbox, "the sandbox of the machines");
    const pid = Number(readFileSync(`/proc/${sandbox.pid}/task/${sandbox.pid}/children`, "utf8").trim());
    const machines: Machine[] = [];
    for (let i = 1; i <= count; i++) machines.push(await startMachine(dir, pid, i));
    return { machines, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The release lies over the host's own files, and nothing is ever written to either. */
function renderSandbox(stage: string): string {
  return `
    ${renderSandboxScript()}
    mkdir -p ${PRIVATE.join(" ")}
    mount -t overlay overlay -o lowerdir=${stage}/usr:/usr /usr
    mkdir -p /opt/gingham-release
    mount --bind ${stage} /opt/gingham-release
    ip link add segment type bridge
    ip link set segment up
    echo ready
    while :; do sleep 1 & wait; done`;
}

async function startMachine(dir: string, sandboxPid: number, number: number): Promise<Machine> {
  const name = `m${number}`;
  const ip = `172.29.0.${10 + number}`;
  const enterSandbox = enterLabArgv(sandboxPid, { rootless: false });
  const script = `
    hostname ${name}
    ${PRIVATE.map((path) => `mount -t tmpfs -o mode=755 tmpfs ${path}`).join("\n")}
    mkdir -p /run/netns /run/lock
    cp -a /opt/gingham-release/opt/cni/bin/. /opt/cni/bin/
    mount -t sysfs sysfs /sys
    ip link set lo up
    echo $$
    exec sleep infinity`;
  const [enter = "", ...rest] = [...enterSandbox, ...holderArgv(script)];
  const holder = spawn(enter, rest, { stdio: ["ignore", "pipe", "pipe"], env });
  const pid = await readPid(holder, name);
  const wire = `ip link add ${name} type veth peer name eth0 netns /proc/${pid}/ns/net; ip link set ${name} master segment up`;
  await runOk([...enterSandbox, "sh", "-euc", wire], { env });
  const enterMachine = [...enterSandbox, "nsenter", "--target", String(pid), "--mount", "--net", "--uts", "--"];
  const machine: Machine = {
    name,
    ip,
    sh: (text, options) => run([...enterMachine, "sh", "-euc", text], { env, ...options }),
    ok: (text) => runOk([...enterMachine, "sh", "-euc", text], { env }),
    startUnit: (unit) => startUnit(enterMachine, unit, join(dir, `${name}-${unit}.log`)),
  };
  await machine.ok(`ip addr add ${ip}/24 dev eth0; ip link set eth0 up; ip route add default via 172.29.0.1`);
  return machine;
}

async function readPid(holder: ChildProcess, name: string): Promise<number> {
  const first = new Promise<string>((resolve) =>
    holder.stdout?.once("data", (data: Buffer) => resolve(data.toString())),
  );
  await untilReady(holder, name);
  return Number((await first).trim());
}

/** systemd.service(5) and systemd.exec(5), as far as our units need them. */
async function startUnit(enter: readonly string[], unit: string, logPath: string): Promise<Daemon> {
  const text = await runOk([...enter, "cat", `/usr/lib/systemd/system/${unit}.service`], { env });
  const lines = text.split("\n").filter((line) => /^\w+=/.test(line));
  const of = (key: string): readonly string[] =>
    lines.flatMap((line) => (line.startsWith(`${key}=`) ? [line.slice(key.length + 1)] : []));
  for (const path of of("AssertPathExists")) await runOk([...enter, "test", "-e", path], { env });
  const folders = [
    ...of("StateDirectory").map((name) => `/var/lib/${name}`),
    ...of("RuntimeDirectory").map((name) => `/run/${name}`),
  ];
  const files = of("EnvironmentFile").map(
    (file) => `if [ -e ${file.replace("-", "")} ]; then . ${file.replace("-", "")}; fi`,
  );
  const script = [
    ...(folders.length > 0 ? [`mkdir -p -m 700 ${folders.join(" ")}`] : []),
    "set -a",
    ...of("Environment").flatMap((line) => line.split(" ")),
    ...files,
    // Words as systemd makes them: $OPTIONS is several, \${LISTEN} one, and the shell's rules are the same for these.
    `echo $$ > ${"$"}{LOG_PATH}.pid; exec ${of("ExecStart")[0]} > ${"$"}{LOG_PATH} 2>&1`,
  ].join("\n");
  writeFileSync(logPath, "");
  const [command = "", ...rest] = enter;
  const daemon = spawn(command, [...rest, "sh", "-euc", script], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...env, LOG_PATH: logPath },
  });
  const said: string[] = [];
  daemon.stderr.on("data", (data: Buffer) => said.push(data.toString()));
  return {
    log: () => (existsSync(logPath) ? readFileSync(logPath, "utf8") : "") + said.join(""),
    stop: async () => {
      if (daemon.exitCode !== null || daemon.signalCode !== null) return;
      const ended = new Promise((resolve) => daemon.once("exit", resolve));
      // As the machines count: the one that runs here is only the way in.
      await runOk([...enter, "kill", readFileSync(`${logPath}.pid`, "utf8").trim()], { env });
      await ended;
    },
  };
}

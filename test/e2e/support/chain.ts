// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { type AddResult, CNIRuntime, type PluginConf } from "../../../src/lab/cni-runtime.ts";
import type { RemoteLab } from "../../../src/lab/remote.ts";
import { type RunResult, run } from "../../../src/lab/run.ts";
import { CNI_BIN_DIR } from "../../../src/lab/topology.ts";
import { waitUntil } from "./containerd-machine.ts";

/** One interface of a container on a node of the laboratory, made by a chain of plugins that the test chooses. */
export interface ChainedPod {
  readonly node: string;
  readonly result: AddResult;
  /** Without their lengths. */
  readonly ips: readonly string[];
  readonly exec: (...argv: string[]) => Promise<RunResult>;
  check(): Promise<void>;
  /** DEL, then DEL again without a namespace, as containerd does; the namespace of eth0 goes, too. */
  del(): Promise<void>;
}

export interface ChainRequest {
  readonly node: string;
  /** Container ID and name of the namespace. */
  readonly name: string;
  readonly plugins: readonly PluginConf[];
  /** What the runtime knows; each plugin gets of it what its capabilities name. */
  readonly capabilityArgs?: Readonly<Record<string, unknown>>;
  readonly network?: string;
  /** eth0 makes the namespace; any other is added to one that is there. */
  readonly ifName?: string;
  readonly disableCheck?: boolean;
  /** A plugin of the chain refuses a DEL without a namespace: none is sent. */
  readonly needsNetns?: boolean;
}

/** Ours, at the head of a chain, with an address of each family. */
export const DUAL: PluginConf = { type: "gingham", ipam: { type: "gingham-ipam", assign_ipv6: "true" } };

/** Executes the chain as a runtime does. @throws PluginError with nothing left behind */
export async function attachChain(lab: RemoteLab, request: ChainRequest): Promise<ChainedPod> {
  const { node, name, plugins, capabilityArgs = {}, network = "k8s-pod-network", ifName = "eth0" } = request;
  const results = new Map<string, AddResult>();
  const list = { name: network, cniVersion: "1.0.0", plugins, disableCheck: request.disableCheck ?? false };
  const runtime = new CNIRuntime(list, {
    pluginPath: CNI_BIN_DIR,
    cache: {
      load: async (key) => results.get(key),
      store: async (key, result) => void results.set(key, result),
      remove: async (key) => void results.delete(key),
    },
    execute: (type, { env, stdin }) => lab.exec(node, [join(CNI_BIN_DIR, type)], { env, input: stdin }),
  });
  const netns = `/run/netns/${name}`;
  const attachment = { containerID: name, netns, ifName, args: [], capabilityArgs };
  const del = async (): Promise<void> => {
    await runtime.del(attachment);
    if (request.needsNetns !== true) await runtime.del({ ...attachment, netns: "" });
    if (ifName === "eth0") await ok(lab.exec(node, ["ip", "netns", "delete", name]));
  };
  if (ifName === "eth0") await ok(lab.exec(node, ["ip", "netns", "add", name]));
  const result = await runtime.add(attachment).catch(async (error: unknown) => {
    await del();
    throw error;
  });
  return {
    node,
    result,
    ips: (result.ips ?? []).map(({ address }) => address.replace(/\/\d+$/, "")),
    exec: (...argv) => lab.exec(node, ["nsenter", `--net=${netns}`, "--", ...argv]),
    check: () => runtime.check(attachment),
    del,
  };
}

/** A running `echo.ts`. */
export interface Echo {
  /** What it has written, once it has ended. */
  readonly ended: Promise<RunResult>;
}

/** Starts `echo.ts` in a pod, where it stays for so long, or until the laboratory ends. */
export async function startEcho(pod: Pick<ChainedPod, "exec">, port: number, seconds = 60): Promise<Echo> {
  const program = [process.execPath, join(import.meta.dirname, "echo.ts"), String(port)];
  const ended = pod.exec("timeout", String(seconds), ...program);
  // The laboratory may end before it does.
  ended.catch(() => {});
  const listens = async (): Promise<boolean> => {
    const { stdout } = await pod.exec("ss", "-Hltun", `sport = ${port}`);
    return stdout.trim().split("\n").length === 2;
  };
  await waitUntil(`echo on port ${port}`, listens, 10_000);
  return { ended };
}

/** Says hello to `echo.ts`, in one datagram where it is UDP. @returns the address that it saw, or why there is none */
export async function hello(
  exec: (...argv: string[]) => Promise<RunResult>,
  to: { readonly protocol: "tcp" | "udp"; readonly ip: string; readonly port: number },
): Promise<string> {
  const { protocol, ip, port } = to;
  const script = `exec 3<>/dev/${protocol}/${ip}/${port} && echo hello >&3 && head -1 <&3`;
  const { exitCode, stdout, stderr } = await exec("timeout", "2", "bash", "-c", script);
  return exitCode === 0 ? stdout.trim() : `exit status ${exitCode} ${stderr}`.trim();
}

/** Standard output of what has to succeed. */
export async function ok(result: Promise<RunResult>): Promise<string> {
  const { exitCode, stdout, stderr } = await result;
  if (exitCode !== 0) throw new Error(`exit status ${exitCode}: ${stderr}${stdout}`);
  return stdout;
}

/** @throws Error that says which package brings what is missing */
export async function requirePrograms(programs: Readonly<Record<string, string>>): Promise<void> {
  for (const [program, debianPackage] of Object.entries(programs)) {
    const { exitCode } = await run(["sh", "-c", `command -v ${program}`]);
    if (exitCode !== 0) throw new Error(`${program} is missing: apt-get install ${debianPackage}`);
  }
}

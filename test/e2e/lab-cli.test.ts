// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type RunResult, run } from "../../src/lab/run.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** The laboratory as a person uses it: two terminals, Ctrl-C, and worse. */

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "gingham-cli-"));
  chmodSync(folder, 0o777);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const PROGRAM = [process.execPath, join(ROOT, "src/main/lab.ts")];

/** A folder for state of its own, so that a laboratory of somebody else is not found. */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, TMPDIR: folder };
}

function start(args: readonly string[]): { child: ChildProcess; said: () => string } {
  const [command = "", ...rest] = [...PROGRAM, ...args];
  const child = spawn(command, rest, { env: environment(), stdio: ["ignore", "pipe", "pipe"] });
  const chunks: string[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => chunks.push(chunk.toString()));
  return { child, said: () => chunks.join("") };
}

function lab(...args: readonly string[]): Promise<RunResult> {
  return run([...PROGRAM, ...args], { env: environment() });
}

/** Processes that have this folder on their command line: the sandbox, and all that stands on it. */
async function listProcesses(): Promise<readonly string[]> {
  const { stdout } = await run(["sh", "-c", `cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '`]);
  return stdout.includes(`"stateDir":"${folder}`) ? [stdout] : [];
}

function stateDirs(): readonly string[] {
  return readdirSync(join(folder, `gingham-lab-${process.getuid?.() ?? 0}`));
}

test("another terminal gets a shell on nodes and in pods, and kubectl; Ctrl-C leaves nothing", async () => {
  const { child, said } = start(["--nodes", "2", "--pods", "2"]);
  await waitUntil("the laboratory to stay", async () => said().includes("stays until Ctrl-C"), 50_000);
  expect(said()).toContain("All well: 2 nodes, 2 pods");
  expect(await lab("shell", "node-2", "hostname")).toEqual({
    exitCode: 0,
    stdout: "node-2\n",
    stderr: expect.stringMatching(/^lab: entering laboratory \d+-\w+ \(nodes: 2, pods: 2\)\n$/) as string,
  });
  expect((await lab("shell", "node-1", "ip", "route")).stdout).toMatch(/^blackhole .* proto 80/m);
  expect((await lab("shell", "pod-1", "ip", "route")).stdout).toContain("default via 169.254.1.1 dev eth0");
  expect(await lab("kubectl", "get", "nodes", "-o", "name")).toMatchObject({ stdout: "node/node-1\nnode/node-2\n" });
  expect(await lab("shell", "node-9")).toMatchObject({
    exitCode: 1,
    stderr: "lab: There is no node-9 in the laboratory; there are node-1, node-2, pod-1, pod-2\n",
  });
  child.kill("SIGINT");
  const [code] = (await once(child, "exit")) as [number | null];
  expect(code).toBe(0);
  expect(stateDirs()).toEqual([]);
  expect(await listProcesses()).toEqual([]);
});

test("SIGKILL takes the whole laboratory down", async () => {
  const { child, said } = start(["--nodes", "1", "--pods", "2"]);
  await waitUntil("the agents' step", async () => said().includes("[4/"), 20_000);
  child.kill("SIGKILL");
  await waitUntil("every process to end", async () => (await listProcesses()).length === 0, 5_000);
  expect(stateDirs()).toHaveLength(1);
  expect(await lab("kubectl", "get", "nodes")).toMatchObject({
    exitCode: 1,
    stderr: "lab: No laboratory of yours is running; start one in another terminal with: npm run lab\n",
  });
});

test("what makes no sense is refused with status 2", async () => {
  expect(await lab("--nodes", "many")).toMatchObject({
    exitCode: 2,
    stderr: 'lab: --nodes must be a whole number from 1 to 32, got "many"\n',
  });
});

test("an ordinary user gets the same, where user namespaces are allowed", async () => {
  // The project may lie where only root can read.
  const copy = join(folder, "copy");
  const skipped = (path: string): boolean => path.endsWith(".map") || path.endsWith("gingham-standalone");
  cpSync(join(ROOT, "dist"), join(copy, "dist"), { recursive: true, filter: (path) => !skipped(path) });
  cpSync(join(ROOT, "manifests/crds"), join(copy, "manifests/crds"), { recursive: true });
  cpSync(join(ROOT, "package.json"), join(copy, "package.json"));
  cpSync(process.execPath, join(copy, "node"));
  // As podman leaves it, and nobody else may look into.
  const withCNI = `mount -t tmpfs tmpfs ${folder}; mkdir ${folder}/upper ${folder}/work
    mount -t overlay overlay -o lowerdir=/etc,upperdir=${folder}/upper,workdir=${folder}/work /etc
    mkdir -m 700 /etc/cni /etc/cni/net.d; umount -l ${folder}; exec "$@"`;
  const machine = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", withCNI, "sh"];
  const nobody = [...machine, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const argv = [...nobody, join(copy, "node"), join(copy, "dist/lab.mjs"), "--once", "--nodes", "2", "--pods", "2"];
  const { exitCode, stdout, stderr } = await run(argv, { env: { ...environment(), HOME: "/nonexistent" } });
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout).toContain("All well: 2 nodes, 2 pods, 2 handles, 4 blocks routed on 2 nodes, 8 pings, 0 lost");
});

// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import { type RunResult, run } from "../../src/lab/run.ts";

/**
 * This tree's programs together with another commit's, which GINGHAM_OTHER_VERSION names: on two nodes of a laboratory agents are
 * replaced by those of the other version and back, under traffic, beside controller and launcher of either. CRDs and API server are
 * this tree's, as in an upgrade. `npm run test:skew`; not in `npm test`, as a clone may lack the commit.
 */

const ROOT = join(import.meta.dirname, "../..");
const CACHE = join(ROOT, ".cache/skew");
const NODES = ["node-1", "node-2"] as const;
const FLAGS = "--disable-warning=ExperimentalWarning";

type Version = "this" | "the other";
let dists: Readonly<Record<Version, string>>;

beforeAll(() => {
  dists = { this: join(ROOT, "dist"), "the other": buildOther() };
}, 300_000);

/** @returns the dist folder of the other commit, whose tree is kept for the next time */
function buildOther(): string {
  const name = process.env["GINGHAM_OTHER_VERSION"];
  if (!name) throw new Error("Set GINGHAM_OTHER_VERSION to the tag or commit that this tree is to work with");
  const commit = execFileSync("git", ["rev-parse", "--verify", `${name}^{commit}`], { cwd: ROOT, encoding: "utf8" });
  const tree = join(CACHE, commit.trim());
  if (existsSync(join(tree, "dist/gingham"))) return join(tree, "dist");
  mkdirSync(tree, { recursive: true });
  const archive = execFileSync("git", ["archive", commit.trim()], { cwd: ROOT, maxBuffer: 2 ** 28 });
  execFileSync("tar", ["-x", "-C", tree], { input: archive });
  // Of the packages it gets ours: what counts is what the programs say to each other.
  if (!existsSync(join(tree, "node_modules"))) symlinkSync(join(ROOT, "node_modules"), join(tree, "node_modules"));
  execFileSync(process.execPath, ["scripts/build.ts"], { cwd: tree, stdio: ["ignore", "ignore", "inherit"] });
  return join(tree, "dist");
}

describe.each<Version>(["the other", "this"])("controller and launcher of %s version", (version) => {
  const root = join(CACHE, `with-${version.replace(" ", "-")}`);
  let lab: RemoteLab;

  /** A program sees itself where it lies, so each version finds its own parts. */
  function choose(file: string, from: Version): void {
    rmSync(join(root, "dist", file), { force: true });
    symlinkSync(join(dists[from], file), join(root, "dist", file));
  }

  beforeAll(async () => {
    rmSync(root, { recursive: true, force: true });
    mkdirSync(join(root, "dist"), { recursive: true });
    symlinkSync(join(ROOT, "manifests"), join(root, "manifests"));
    for (const file of ["controller.mjs", "gingham"]) choose(file, version);
    choose("apiserver.mjs", "this");
    choose("agent.mjs", "the other");
    lab = await startLab({ root, script: join(ROOT, "src/main/lab.ts"), nodes: 2, pods: 2 });
  });
  afterAll(() => lab.stop());

  async function ok(result: Promise<RunResult>): Promise<string> {
    const { exitCode, stdout, stderr } = await result;
    if (exitCode !== 0) throw new Error(`exit status ${exitCode}: ${stderr}${stdout}`);
    return stdout;
  }

  async function replaceAgents(by: Version): Promise<void> {
    choose("agent.mjs", by);
    for (const node of NODES) {
      await lab.killAgent(node, "SIGTERM");
      await lab.startAgent(node);
    }
  }

  test.each<Version>(["this", "the other"])("agents of %s version take over, and no packet is lost", async (by) => {
    const [first, second] = await lab.listPods();
    if (first === undefined || second === undefined) throw new Error("There are no two pods");
    const pinging = lab.exec(first.name, ["fping", "-q", "-l", "-p", "20", "-t", "1000", second.ips[0] ?? ""]);
    await replaceAgents(by);
    await ok(lab.exec("node-1", ["sh", "-c", "pkill -INT -x fping"]));
    expect((await pinging).stderr).toMatch(/xmt\/rcv\/%loss = (\d+)\/\1\/0%/);
  });

  test.each<Version>(["this", "the other"])(
    "pods are carried on and deleted by agents of %s version, and their addresses come free",
    async (by) => {
      const name = (node: string): string => `before-${by.replace(" ", "-")}-${node}`;
      const pods = await Promise.all(NODES.map(async (node) => await lab.addPod({ name: name(node), node })));
      const [first] = await lab.listPods();
      await replaceAgents(by);
      for (const { ips } of pods)
        await ok(lab.exec(first?.name ?? "", ["fping", "-q", "-c", "3", "-p", "100", ips[0] ?? ""]));
      await Promise.all(NODES.map(async (node) => await lab.delPod(name(node))));
      const handles = await ok(lab.kubectl(["get", "ipamblocks", "-o", "jsonpath={.items[*].spec.attributes}"]));
      for (const node of NODES) expect(handles).not.toContain(name(node));
    },
  );

  test("then gingham ipam check finds nothing wrong", async () => {
    const program = [process.execPath, FLAGS, join(dists.this, "cli.mjs")];
    // Not waited for at once: its requests go through this process.
    const { exitCode, stdout, stderr } = await run([...program, "ipam", "check", "--kubeconfig", lab.kubeconfig]);
    expect({ exitCode, stderr }, stdout).toEqual({ exitCode: 0, stderr: "" });
  });
});

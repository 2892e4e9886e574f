// SPDX-License-Identifier: Apache-2.0
// The built program, as people start it: from the checkout, from a link as npm makes it, and as a plugin of kubectl.
import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { type ApiServer, createApiServer } from "../../src/apiserver/api-server.ts";
import { CLUSTER_INFORMATIONS } from "../../src/crds/cluster-information.ts";
import { NODES, PODS } from "../../src/crds/core.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { IP_POOLS } from "../../src/crds/ip-pool.ts";
import { IP_RESERVATIONS } from "../../src/crds/ip-reservation.ts";
import { IPAM_BLOCKS } from "../../src/crds/ipam-block.ts";
import { IPAM_HANDLES } from "../../src/crds/ipam-handle.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import { createAllocator } from "../../src/ipam/allocator/allocator.ts";
import { podAttributes } from "../../src/ipam/gc/fake-cluster.ts";
import { KubeStore, listedObjects } from "../../src/ipam/kube-store.ts";
import { sourcesOf } from "../../src/ipam/sources.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { parseJSON } from "../../src/lib/json.ts";
import { systemClock as clock } from "../../src/lib/system-clock.ts";
import { formatIP } from "../../src/net/ip.ts";

const ROOT = join(import.meta.dirname, "../..");
const PROGRAM = join(ROOT, "bin/gingham");
const head = (kind: string, name: string) => ({ apiVersion: "crd.projectcalico.org/v1", kind, metadata: { name } });

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
  const { PATH = "" } = process.env;
  // A home of nobody, so that no kubeconfig of this machine is found.
  const child = spawn(program, args, {
    env: { PATH, HOME: "/nonexistent", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.on("error", reject);
  child.on("close", (status) => resolve({ status, stdout, stderr }));
  return promise;
}

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), "gingham-cli-"));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  return dir;
}

let dir: string;
let server: ApiServer;
let client: HTTPKubeClient;
let kubeconfig: string;

const gingham = (line: string, env: Record<string, string> = { KUBECONFIG: kubeconfig }): Promise<Outcome> =>
  run(PROGRAM, line.split(" "), env);

beforeAll(() => {
  if (!existsSync(join(ROOT, "dist/cli.mjs"))) throw new Error("dist/cli.mjs is missing: npm run build");
});

/** Two pods of one node, with addresses of the allocator that agents use. */
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "gingham-cli-"));
  server = await createApiServer({ manifests: KINDS.map(renderCRD) });
  kubeconfig = join(dir, "kubeconfig");
  writeFileSync(kubeconfig, server.adminKubeconfig(), { mode: 0o600 });
  client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath: kubeconfig }), clock });
  await client.create(IP_POOLS, { ...head("IPPool", "main"), spec: { cidr: "10.0.0.0/24", blockSize: 29 } });
  const spec = { datastoreReady: true, clusterGUID: "c1" };
  await client.create(CLUSTER_INFORMATIONS, { ...head("ClusterInformation", "default"), spec });
  await client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "node-a" } });
  const allocator = createAllocator({
    store: new KubeStore(client),
    sources: sourcesOf(listedObjects(client, "node-a"), "node-a"),
    clock,
    random: Math.random,
    nodeName: "node-a",
  });
  for (const name of ["a", "b"]) {
    const containers = [{ name: "main", image: "gingham.example/test" }];
    const spec: { nodeName: string; containers: readonly object[] } = { nodeName: "node-a", containers };
    const metadata = { name, namespace: "default" };
    const pod = await client.create(PODS, { apiVersion: "v1", kind: "Pod", metadata, spec });
    const attributes = podAttributes("node-a", name);
    const [allocation] = await allocator.assign({ handleID: `net.${name}`, attributes, families: [4] });
    if (allocation === undefined) throw new Error("no address");
    const podIP = formatIP(allocation.ip);
    await client.update(
      PODS,
      { ...pod, status: { phase: "Running", podIP, podIPs: [{ ip: podIP }] } },
      { subresource: "status" },
    );
  }
  allocator.close();
  return async () => {
    client.close();
    await server.close();
    rmSync(dir, { recursive: true });
  };
});

/** The address of a pod. */
async function addressOf(pod: string): Promise<string> {
  const { status } = await client.get(PODS, pod, { namespace: "default" });
  return status?.podIP ?? "";
}

describe("bin/gingham", () => {
  it("shows and checks the cluster of KUBECONFIG, and of --kubeconfig", async () => {
    const shown = await gingham("ipam show");
    expect(shown).toMatchObject({ status: 0, stderr: "" });
    expect(shown.stdout).toMatch(/^POOL +CIDR.*\nmain +10\.0\.0\.0\/24 +256 +2 +0 +254 /);
    const checked = await gingham(`ipam check --kubeconfig ${kubeconfig}`, {});
    expect(checked).toMatchObject({ status: 0, stderr: "" });
    expect(checked.stdout).toMatch(
      /^Looked at 1 blocks, 2 addresses, 2 handles, 1 claims; 2 pods, 1 nodes\.\nNo problem\.\n$/,
    );
  });

  it("works from any place and through a link, as npm installs it", async () => {
    const { bin } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { bin: Record<string, string> };
    expect(Object.keys(bin)).toEqual(["gingham", "kubectl-gingham"]);
    const place = folder();
    for (const [name, target] of Object.entries(bin)) {
      symlinkSync(join(ROOT, target), join(place, name));
      expect(await run(join(place, name), ["--help"])).toMatchObject({ status: 0, stderr: "" });
    }
  });

  it("works as kubectl gingham, with kubectl's KUBECONFIG", async () => {
    const place = folder();
    symlinkSync(PROGRAM, join(place, "kubectl-gingham"));
    const env = { KUBECONFIG: kubeconfig, PATH: `${place}${delimiter}${process.env["PATH"]}` };
    const address = await addressOf("a");
    const shown = await run("kubectl", ["gingham", "ipam", "show", address, "-o", "json"], env);
    expect(shown).toMatchObject({ status: 0, stderr: "" });
    const block = (await client.list(IPAM_BLOCKS)).items[0];
    const { sequenceNumber } = parseJSON(shown.stdout) as { readonly sequenceNumber: bigint };
    // Beyond 2^53, and exact.
    expect(sequenceNumber).toBe(block?.spec.sequenceNumberForAllocation["0"]);
    await client.delete(PODS, "a", { namespace: "default" });
    expect(await run("kubectl", ["gingham", "ipam", "check"], env)).toMatchObject({ status: 1 });
  });

  it("says that set-up or build are missing, and how to come by them", async () => {
    const place = folder();
    mkdirSync(join(place, "bin"));
    cpSync(PROGRAM, join(place, "bin/gingham"));
    const bare = await run(join(place, "bin/gingham"), ["--help"]);
    expect(bare.status).toBe(2);
    expect(bare.stderr).toContain(`run "npm run setup" in ${place}`);
    mkdirSync(join(place, "node_modules/.bin"), { recursive: true });
    symlinkSync(process.execPath, join(place, "node_modules/.bin/node"));
    const unbuilt = await run(join(place, "bin/gingham"), ["--help"]);
    expect(unbuilt.status).toBe(2);
    expect(unbuilt.stderr).toContain(`run "npm run build" in ${place}`);
  });

  it("prints its help in less than 150 ms", async () => {
    const times: number[] = [];
    for (let i = 0; i < 7; i++) {
      const start = performance.now();
      await run(PROGRAM, ["--help"]);
      times.push(performance.now() - start);
    }
    expect(Math.min(...times)).toBeLessThan(150);
  });
});

describe("what is wrong with the connection", () => {
  it("no API server where the kubeconfig says", async () => {
    await server.close();
    const { status, stderr } = await gingham("ipam show");
    expect(status).toBe(2);
    expect(stderr).toMatch(/ECONNREFUSED.*\nNo connection to the API server/s);
    // For beforeEach's clean-up.
    server = await createApiServer();
  });

  it("no kubeconfig at all, and one that is not there", async () => {
    expect(await gingham("ipam show", {})).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("--kubeconfig") as string,
    });
    const missing = await gingham("ipam show --kubeconfig /nonexistent/config", {});
    expect([missing.status, missing.stderr]).toEqual([2, expect.stringContaining("Cannot read /nonexistent/config")]);
  });

  it("a right that is missing is named", async () => {
    const path = join(dir, "node-kubeconfig");
    writeFileSync(path, server.nodeKubeconfig("node-a"), { mode: 0o600 });
    const { status, stderr } = await gingham("ipam reserve 10.0.0.200 --name x", { KUBECONFIG: path });
    expect(status).toBe(2);
    expect(stderr).toContain("lacks the right: create on ipreservations, apiGroup crd.projectcalico.org");
  });

  it("a cluster without our kinds is told as such", async () => {
    const empty = await createApiServer();
    onTestFinished(() => empty.close());
    const path = join(dir, "empty-kubeconfig");
    writeFileSync(path, empty.adminKubeconfig(), { mode: 0o600 });
    const { status, stderr } = await gingham("ipam check", { KUBECONFIG: path });
    expect(status).toBe(2);
    expect(stderr).toContain("does not have the kind ipamblocks.crd.projectcalico.org: install Gingham's CRDs");
  });
});

describe("check, release and reserve on an API server", () => {
  it("frees what a report calls leaked, once it is old enough or forced, and nothing else", async () => {
    const address = await addressOf("b");
    await client.delete(PODS, "b", { namespace: "default" });
    const report = join(dir, "report.json");
    const checked = await gingham("ipam check -o json");
    expect(checked.status).toBe(1);
    writeFileSync(report, checked.stdout);
    const early = await gingham(`ipam release --from-report ${report}`);
    expect([early.status, early.stderr]).toEqual([
      1,
      expect.stringContaining("a sandbox may still use what looks leaked"),
    ]);
    const forced = await gingham(`ipam release --force --from-report ${report}`);
    expect([forced.status, forced.stdout]).toEqual([
      0,
      expect.stringContaining(`freed ${address}: handle net.b, sequence number `),
    ]);
    expect((await client.list(IPAM_HANDLES)).items.map(({ spec }) => spec.handleID)).toEqual(["net.a"]);
    expect((await gingham("ipam check")).status).toBe(0);
  });

  it("refuses the address of a running pod", async () => {
    const address = await addressOf("a");
    const refused = await gingham(`ipam release ${address}`);
    expect([refused.status, refused.stderr]).toEqual([
      1,
      expect.stringContaining("pod default/a; the pod runs and has it"),
    ]);
    expect((await gingham(`ipam show ${address} -o json`)).stdout).toContain('"state": "held"');
  });

  it("mends with --fix --yes, and asks without --yes, which nobody can answer here", async () => {
    await client.delete(IPAM_HANDLES, "net.a");
    const asked = await gingham("ipam check --fix");
    expect(asked.status).toBe(1);
    expect(asked.stdout).toContain("Nothing was changed");
    const mended = await gingham("ipam check --fix --yes");
    expect(mended.status).toBe(0);
    expect(mended.stdout).toMatch(/done: create IPAMHandle net\.a with 1 in 10\.0\.0\.\d+\/29\n$/);
    expect((await gingham("ipam check")).status).toBe(0);
  });

  it("reserves, lists and removes", async () => {
    expect((await gingham("ipam reserve 10.0.0.200 --name x --for pod/default/c")).status).toBe(0);
    expect((await client.get(IP_RESERVATIONS, "x")).spec.reservedCIDRs).toEqual(["10.0.0.200"]);
    expect((await gingham("ipam reserve --list -o yaml")).stdout).toContain("for: Pod default/c\n");
    expect((await gingham("ipam show 10.0.0.200")).stdout).toContain("Reserved by   x, for Pod default/c\n");
    expect((await gingham("ipam reserve --remove x")).status).toBe(0);
  });
});

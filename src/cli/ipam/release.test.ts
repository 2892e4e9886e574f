// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { NODES, PODS } from "../../crds/core.ts";
import { IP_POOLS } from "../../crds/ip-pool.ts";
import { IPAM_BLOCKS, type IPAMBlockSpec } from "../../crds/ipam-block.ts";
import { IPAM_HANDLES } from "../../crds/ipam-handle.ts";
import type { KubeObject, Resource } from "../../crds/object.ts";
import { blockOf, handleOf, podAttributes } from "../../ipam/gc/fake-cluster.ts";
import { MemoryClient } from "../../kube/memory-client.ts";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseJSON, stringifyJSON } from "../../lib/json.ts";
import { type Ran, runGingham } from "../fake-terminal.ts";

const CIDR = "10.0.0.0/29";
const NAME = "10-0-0-0-29";
let clock: FakeClock;
let client: MemoryClient;

function add<T extends KubeObject>(resource: Resource<T>, object: T): void {
  const { resourceVersion: _version, uid: _uid, ...metadata } = object.metadata;
  client.seed(resource, { ...object, metadata });
}

const run = async (line: string): Promise<Ran> => await runGingham(`ipam release ${line}`, { client, clock });
const allocations = async (): Promise<IPAMBlockSpec["allocations"]> =>
  (await client.get(IPAM_BLOCKS, NAME)).spec.allocations;

/** Addresses of the running pod a, of pod b, which is gone, of nobody, and a cooling one. */
beforeEach(async () => {
  clock = new FakeClock();
  client = new MemoryClient({ clock });
  const holders = ["a", "b"].map((pod) => ({ handleID: `net.${pod}`, attributes: podAttributes("node-a", pod) }));
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata: { name: "main" } };
  add(IP_POOLS, { ...head, spec: { cidr: "10.0.0.0/24", blockSize: 29 } });
  const block = blockOf(CIDR, "node-a", holders);
  const { spec } = block;
  const attributes = [...spec.attributes, {}, { releasedAt: "2026-08-22T10:39:00Z" }];
  const free = [null, null, null, null];
  add(IPAM_BLOCKS, {
    ...block,
    spec: { ...spec, attributes, allocations: [0, 1, 2, 3, ...free], unallocated: [4, 5, 6, 7] },
  });
  for (const id of ["net.a", "net.b"]) add(IPAM_HANDLES, handleOf(id, { [CIDR]: 1 }));
  add(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "node-a" } });
  const metadata = { name: "a", namespace: "default" };
  add(PODS, { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: "node-a" }, status: { podIP: "10.0.0.0" } });
  expect(await allocations()).toEqual([0, 1, 2, 3, null, null, null, null]);
});

describe("gingham ipam release ADDRESS", () => {
  it("frees the address of a pod that is gone, and says what it did", async () => {
    expect(await run("10.0.0.1 10.0.0.1")).toEqual({
      status: 0,
      stdout: "freed 10.0.0.1: handle net.b, sequence number 1787395200123456790, of pod default/b on node-a\n",
      stderr: "",
    });
    expect(await allocations()).toEqual([0, null, 1, 2, null, null, null, null]);
    await expect(client.get(IPAM_HANDLES, "net.b")).rejects.toThrow(/404/);
  });

  it("refuses all when a running pod has one of them, and frees it with --force", async () => {
    const refused = await run("10.0.0.1 10.0.0.0");
    expect(refused).toEqual({
      status: 1,
      stdout: "",
      stderr:
        "gingham: Nothing was released. 10.0.0.0: held for pod default/a; the pod runs and has it. With --force it is released, and another pod can get it at once\n",
    });
    expect(await allocations()).toEqual([0, 1, 2, 3, null, null, null, null]);
    expect((await run("10.0.0.1 10.0.0.0 --force")).stdout.match(/^freed \S+/gm)).toEqual([
      "freed 10.0.0.1:",
      "freed 10.0.0.0:",
    ]);
  });

  it("frees an address without a handle with --force alone", async () => {
    expect(await run("10.0.0.2")).toMatchObject({ status: 1, stdout: "" });
    expect((await run("10.0.0.2 --force")).stdout).toBe("freed 10.0.0.2: no handle, sequence number 0\n");
    expect((await allocations())[2]).toBeNull();
  });

  it("says so when an address is free or cooling, which is no error", async () => {
    expect(await run("10.0.0.3 10.0.0.4 10.0.0.99")).toMatchObject({
      status: 0,
      stdout: `\
10.0.0.3 was given back at 2026-08-22T10:39:00Z, and is cooling
10.0.0.4 is free already
10.0.0.99 is free already
Nothing was released.
`,
    });
  });

  it("gives programs JSON alone", async () => {
    expect(parseJSON((await run("10.0.0.1 10.0.0.4 -o json")).stdout)).toMatchObject({
      freed: [{ address: "10.0.0.1", handleID: "net.b", sequenceNumber: 1_787_395_200_123_456_790n }],
    });
  });

  it("frees nothing in a block that contradicts itself, forced or not", async () => {
    const block = await client.get(IPAM_BLOCKS, NAME);
    await client.update(IPAM_BLOCKS, { ...block, spec: { ...block.spec, unallocated: [4, 4] } });
    const { status, stderr } = await run("10.0.0.1 --force");
    expect([status, stderr]).toEqual([1, expect.stringContaining(`IPAMBlock ${NAME} contradicts itself`)]);
  });

  it("leaves alone what was given again since it looked", async () => {
    let isGivenAgain = false;
    client.onCall = async ({ verb, resource }) => {
      if (verb !== "get" || resource !== IPAM_BLOCKS || isGivenAgain) return undefined;
      isGivenAgain = true;
      const block = await client.get(IPAM_BLOCKS, NAME);
      const sequenceNumberForAllocation = { ...block.spec.sequenceNumberForAllocation, "1": block.spec.sequenceNumber };
      await client.update(IPAM_BLOCKS, { ...block, spec: { ...block.spec, sequenceNumberForAllocation } });
      return undefined;
    };
    const ran = await run("10.0.0.1");
    expect(ran).toMatchObject({
      stdout: "Nothing was released.\n",
      stderr: expect.stringContaining("1 were left alone") as string,
    });
    expect((await allocations())[1]).toBe(1);
  });

  it.each([[""], ["10.0.0.1 --handle net.b"], ["10.0.0"], ["--from-report /nowhere"]])(
    "refuses %j as wrong usage",
    async (args) => {
      expect((await runGingham(`ipam release ${args}`.trim(), { client, clock })).status).toBe(2);
    },
  );
});

describe("gingham ipam release --handle", () => {
  it("frees all that a handle has, by the same rules", async () => {
    expect((await run("--handle net.b")).stdout).toMatch(/^freed 10\.0\.0\.1: handle net\.b/);
    expect((await run("--handle net.a")).status).toBe(1);
    const nobody = await run("--handle net.nobody");
    expect([nobody.status, nobody.stderr]).toEqual([
      1,
      expect.stringContaining("No block has an address of handle net.nobody"),
    ]);
  });
});

describe("gingham ipam release --from-report", () => {
  const MINUTE_MS = 60_000;
  let path: string;

  beforeEach(async () => {
    const folder = mkdtempSync(join(tmpdir(), "gingham-report-"));
    path = join(folder, "report.json");
    writeFileSync(path, (await runGingham("ipam check -o json", { client, clock })).stdout);
    onTestFinished(() => rmSync(folder, { recursive: true }));
  });

  it("frees what was leaked then and still is", async () => {
    await clock.advance(MINUTE_MS);
    expect((await run(`--from-report ${path}`)).stdout).toMatch(/^freed 10\.0\.0\.1: handle net\.b.*\n$/);
    expect(await allocations()).toEqual([0, null, 1, 2, null, null, null, null]);
  });

  it("frees nothing that is in order now, or was given again", async () => {
    const text = stringifyJSON(parseJSON((await runGingham("ipam check -o json", { client, clock })).stdout));
    writeFileSync(path, text.replace("1787395200123456790", "1787395200123456780"));
    await clock.advance(MINUTE_MS);
    expect((await run(`--from-report ${path}`)).stdout).toBe("Nothing was released.\n");
    const metadata = { name: "b", namespace: "default" };
    add(PODS, { apiVersion: "v1", kind: "Pod", metadata, spec: { nodeName: "node-a" }, status: { podIP: "10.0.0.1" } });
    writeFileSync(path, text);
    expect((await run(`--from-report ${path}`)).stdout).toBe("Nothing was released.\n");
  });

  it("refuses a fresh report, and one of another cluster, unless forced", async () => {
    // The check itself ended with its second look.
    clock = new FakeClock(clock.nowMs() - 50_000);
    const fresh = await run(`--from-report ${path}`);
    expect([fresh.status, fresh.stderr]).toEqual([1, expect.stringMatching(/s old: a sandbox may still use/)]);
    writeFileSync(path, stringifyJSON({ ...(parseJSON(await readText(path)) as object), clusterGUID: "another" }));
    await clock.advance(10 * MINUTE_MS);
    expect((await run(`--from-report ${path}`)).stderr).toContain("is of cluster another");
    expect((await run(`--from-report ${path} --force`)).stdout).toMatch(/^freed 10\.0\.0\.1/);
  });

  it.each([["{"], ["[]"], ['{"kind":"GinghamIPAMReport","version":2}'], ['{"kind":"GinghamIPAMReport","version":1}']])(
    "refuses %s, which is no report",
    async (text) => {
      writeFileSync(path, text);
      const { status, stderr } = await run(`--from-report ${path}`);
      expect([status, stderr]).toEqual([2, expect.stringContaining("is no report of this program")]);
    },
  );
});

async function readText(path: string): Promise<string> {
  const { readFile } = await import("node:fs/promises");
  return await readFile(path, "utf8");
}

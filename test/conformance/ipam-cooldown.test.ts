// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ApiServer, createApiServer } from "../../src/apiserver/api-server.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { CUSTOM_RESOURCE_DEFINITIONS, type InstalledCRD, IPAM_BLOCK_CRD_NAME } from "../../src/crds/installed-crd.ts";
import { IP_POOLS } from "../../src/crds/ip-pool.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../../src/crds/ipam-block.ts";
import { IPAM_CONFIG_NAME, IPAM_CONFIGS } from "../../src/crds/ipam-config.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import { createAllocator } from "../../src/ipam/allocator/allocator.ts";
import { checkBlock } from "../../src/ipam/check-block.ts";
import { KubeStore, listedObjects } from "../../src/ipam/kube-store.ts";
import { sourcesOf } from "../../src/ipam/sources.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { systemClock as clock } from "../../src/lib/system-clock.ts";
import { formatIP } from "../../src/net/ip.ts";

/** `ipCooldownSeconds` over real HTTP, before and after somebody installs CRDs that do not know `releasedAt`. */

const NODE = "node-a";
const head = (kind: string, name: string) => ({ apiVersion: "crd.projectcalico.org/v1", kind, metadata: { name } });

let server: ApiServer;
let dir: string;
let client: HTTPKubeClient;

beforeAll(async () => {
  server = await createApiServer({ manifests: KINDS.map(renderCRD) });
  dir = mkdtempSync(join(tmpdir(), "gingham-cooldown-"));
  const kubeconfigPath = join(dir, "kubeconfig");
  writeFileSync(kubeconfigPath, server.adminKubeconfig(), { mode: 0o600 });
  client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }), clock });
  await client.create(IP_POOLS, { ...head("IPPool", "pool"), spec: { cidr: "10.0.0.0/30", blockSize: 30 } });
});
afterAll(async () => {
  client.close();
  await server.close();
  rmSync(dir, { recursive: true });
});

async function configure(ipCooldownSeconds: number): Promise<void> {
  const spec = { strictAffinity: false, autoAllocateBlocks: true, maxBlocksPerHost: 0, ipCooldownSeconds };
  const patch = { type: "apply", fieldManager: "test", force: true } as const;
  const body = { ...head("IPAMConfig", IPAM_CONFIG_NAME), spec };
  await client.patch(IPAM_CONFIGS, IPAM_CONFIG_NAME, { ...patch, body });
}

/** A process of its own, which knows nothing of those before. */
async function inProcess<T>(run: (api: Awaited<ReturnType<typeof start>>) => Promise<T>): Promise<T> {
  const api = await start();
  try {
    return await run(api);
  } finally {
    api.allocator.close();
  }
}

async function start() {
  const sources = sourcesOf(listedObjects(client, NODE), NODE);
  const store = new KubeStore(client);
  const allocator = createAllocator({ store, sources, clock, random: Math.random, nodeName: NODE });
  const add = async (handleID: string): Promise<string> => {
    const got = await allocator.assign({ handleID, attributes: { node: NODE }, families: [4] });
    return got.map(({ ip }) => formatIP(ip)).join();
  };
  return { allocator, add };
}

async function stored(): Promise<IPAMBlock> {
  return await client.get(IPAM_BLOCKS, "10-0-0-0-30");
}

async function installOldCRD(): Promise<void> {
  const crd: InstalledCRD = await client.get(CUSTOM_RESOURCE_DEFINITIONS, IPAM_BLOCK_CRD_NAME);
  // As Calico 3.32 has it: no such field, and what is unknown is pruned.
  const old = JSON.stringify(crd.spec, (key, value: unknown) =>
    key === "releasedAt" || key === "x-kubernetes-preserve-unknown-fields" ? undefined : value,
  );
  const spec = JSON.parse(old) as InstalledCRD["spec"];
  await client.update(CUSTOM_RESOURCE_DEFINITIONS, { ...crd, spec });
}

describe("ipCooldownSeconds", () => {
  it("keeps released addresses out of use where the CRD has releasedAt, until it is set to 0", async () => {
    await configure(1200);
    await inProcess(async ({ add, allocator }) => {
      for (const handle of ["a", "b", "c"]) await add(`net.${handle}`);
      await allocator.releaseByHandle("net.a");
    });
    const { spec } = await stored();
    expect(Object.keys(spec.attributes.at(-1) ?? {})).toEqual(["releasedAt"]);
    expect([spec.allocations[0], spec.unallocated]).toEqual([spec.attributes.length - 1, [3]]);
    expect(checkBlock(spec, clock.nowMs())).toEqual([]);
    await inProcess(async ({ add }) => {
      expect(await add("net.d")).toBe("10.0.0.3");
      await expect(add("net.e")).rejects.toThrow(/1 of their addresses were released and cool down/);
    });
    await configure(0);
    await inProcess(async ({ add }) => expect(await add("net.e")).toBe("10.0.0.0"));
  });

  it("frees at once where the CRD would drop the field, also what was recorded before", async () => {
    await configure(1200);
    await inProcess(({ allocator }) => allocator.releaseByHandle("net.b"));
    expect((await stored()).spec.unallocated).toEqual([]);
    await installOldCRD();
    await inProcess(({ allocator }) => allocator.releaseByHandle("net.c"));
    const { spec } = await stored();
    // This write would have pruned the record, and the address would have been lost.
    expect(spec.unallocated).toEqual([1, 2]);
    expect(checkBlock(spec, clock.nowMs())).toEqual([]);
  });

  it("never uses an address whose record a peer's write has dropped", async () => {
    const block = await stored();
    const index = block.spec.allocations[0] ?? -1;
    const attributes = block.spec.attributes.map((a, i) => (i === index ? { releasedAt: "2026-08-22T10:00:00Z" } : a));
    await client.update(IPAM_BLOCKS, { ...block, spec: { ...block.spec, attributes } });
    await configure(0);
    await inProcess(async ({ add }) => {
      expect([await add("net.f"), await add("net.g")]).toEqual(["10.0.0.1", "10.0.0.2"]);
      await expect(add("net.h")).rejects.toMatchObject({ code: "NoAddress" });
    });
    expect(checkBlock((await stored()).spec, clock.nowMs())).toMatchObject([
      { kind: "namelessAttribute", ordinals: [0] },
    ]);
  });
});

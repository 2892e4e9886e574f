// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ApiServer, createApiServer } from "../../src/apiserver/api-server.ts";
import { BLOCK_AFFINITIES } from "../../src/crds/block-affinity.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { CUSTOM_RESOURCE_DEFINITIONS, type InstalledCRD } from "../../src/crds/installed-crd.ts";
import { IP_POOLS } from "../../src/crds/ip-pool.ts";
import { IPAM_BLOCKS } from "../../src/crds/ipam-block.ts";
import { IPAM_HANDLES } from "../../src/crds/ipam-handle.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import type { KubeObject, Resource } from "../../src/crds/object.ts";
import { createAllocator } from "../../src/ipam/allocator/allocator.ts";
import { checkBlock } from "../../src/ipam/check-block.ts";
import { KubeStore, listedObjects } from "../../src/ipam/kube-store.ts";
import { sourcesOf } from "../../src/ipam/sources.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { systemClock as clock } from "../../src/lib/system-clock.ts";
import { formatIP } from "../../src/net/ip.ts";

/**
 * An upgrade as the cluster's objects see it: some were stored under older CRDs and lack what came later, some have fields of a
 * version that is newer than ours, and the CRDs become ours under them.
 */

const NODE = "node-a";
const BLOCK = "10-0-0-0-30";
/** A field that no version knows yet. */
const LATER = { later: { of: "another version" } };

let server: ApiServer;
let dir: string;
let client: HTTPKubeClient;

beforeAll(async () => {
  server = await createApiServer({ manifests: KINDS.map((kind) => withoutSchema(renderCRD(kind) as InstalledCRD)) });
  dir = mkdtempSync(join(tmpdir(), "gingham-versions-"));
  const kubeconfigPath = join(dir, "kubeconfig");
  writeFileSync(kubeconfigPath, server.adminKubeconfig(), { mode: 0o600 });
  client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }), clock });
  await store(IP_POOLS, "pool", { cidr: "10.0.0.0/30", blockSize: 30 });
  // As the first versions of Calico wrote it: no counter, no mark, no time.
  await store(IPAM_BLOCKS, BLOCK, {
    cidr: "10.0.0.0/30",
    affinity: `host:${NODE}`,
    strictAffinity: false,
    allocations: [null, 0, 1, null],
    unallocated: [0, 3],
    attributes: [
      { handle_id: "net.old", secondary: { node: NODE } },
      { handle_id: "net.stays", secondary: { node: NODE }, ...LATER },
    ],
    ...LATER,
  });
  for (const name of ["net.old", "net.stays"])
    await store(IPAM_HANDLES, name, { handleID: name, block: { "10.0.0.0/30": 1 }, ...LATER });
  await store(BLOCK_AFFINITIES, `${NODE}-${BLOCK}`, {
    cidr: "10.0.0.0/30",
    node: NODE,
    state: "confirmed",
    deleted: "false",
    ...LATER,
  });
  for (const kind of KINDS) {
    const wanted = renderCRD(kind) as InstalledCRD;
    const { metadata } = await client.get(CUSTOM_RESOURCE_DEFINITIONS, wanted.metadata.name);
    await client.update(CUSTOM_RESOURCE_DEFINITIONS, { ...wanted, metadata });
  }
});
afterAll(async () => {
  client.close();
  await server.close();
  rmSync(dir, { recursive: true });
});

/** As CRDs were before Kubernetes wanted schemas: everything goes. */
function withoutSchema(crd: InstalledCRD): InstalledCRD {
  const everything: object = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  const versions = crd.spec.versions.map((version) => ({ ...version, schema: { openAPIV3Schema: everything } }));
  return { ...crd, spec: { ...crd.spec, versions } };
}

async function store(resource: Resource<KubeObject>, name: string, spec: object): Promise<void> {
  const { parse: _, ...unparsed } = resource;
  const { kind } = resource;
  await client.create(unparsed, {
    apiVersion: "crd.projectcalico.org/v1",
    kind,
    metadata: { name },
    spec,
  } as KubeObject);
}

describe("objects of other versions, when the CRDs become ours", () => {
  it("give and take addresses, and keep the fields that we do not know", async () => {
    const sources = sourcesOf(listedObjects(client, NODE), NODE);
    const allocator = createAllocator({
      store: new KubeStore(client),
      sources,
      clock,
      random: Math.random,
      nodeName: NODE,
    });
    const add = async (handleID: string): Promise<string> =>
      (await allocator.assign({ handleID, attributes: { node: NODE }, families: [4] }))
        .map(({ ip }) => formatIP(ip))
        .join();
    expect(await add("net.new")).toBe("10.0.0.0");
    await allocator.releaseByHandle("net.old");
    expect([await add("net.next"), await add("net.last")]).toEqual(["10.0.0.3", "10.0.0.1"]);
    await allocator.releaseByHandle("net.next");
    allocator.close();

    const { spec } = await client.get(IPAM_BLOCKS, BLOCK);
    expect(checkBlock(spec, clock.nowMs())).toEqual([]);
    expect(spec).toMatchObject({ ...LATER, affinity: `host:${NODE}`, unallocated: [3] });
    expect(spec.attributes).toContainEqual({ handle_id: "net.stays", secondary: { node: NODE }, ...LATER });
    expect((await client.list(IPAM_HANDLES)).items.map(({ metadata }) => metadata.name).toSorted()).toEqual([
      "net.last",
      "net.new",
      "net.stays",
    ]);
    expect((await client.get(IPAM_HANDLES, "net.stays")).spec).toMatchObject(LATER);
    const affinity = await client.get(BLOCK_AFFINITIES, `${NODE}-${BLOCK}`);
    expect(affinity.spec).toMatchObject({ ...LATER, state: "confirmed" });
  });
});

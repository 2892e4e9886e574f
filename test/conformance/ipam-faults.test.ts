// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type ApiServer, createApiServer } from "../../src/apiserver/api-server.ts";
import { toErrorObject } from "../../src/cni/errors.ts";
import { NODES } from "../../src/crds/core.ts";
import { renderCRD } from "../../src/crds/definition.ts";
import { IP_POOLS } from "../../src/crds/ip-pool.ts";
import { IPAM_BLOCKS } from "../../src/crds/ipam-block.ts";
import { IPAM_HANDLES } from "../../src/crds/ipam-handle.ts";
import { KINDS } from "../../src/crds/kinds.ts";
import { type Allocator, createAllocator } from "../../src/ipam/allocator/allocator.ts";
import { checkBlock } from "../../src/ipam/check-block.ts";
import { KubeStore, listedObjects } from "../../src/ipam/kube-store.ts";
import { sourcesOf } from "../../src/ipam/sources.ts";
import { HTTPKubeClient } from "../../src/kube/client.ts";
import { loadKubeConfig } from "../../src/kube/kube-config.ts";
import { systemClock as clock } from "../../src/lib/system-clock.ts";

/** An API server that misbehaves on one write of an ADD or a DEL, over real HTTP: whatever it does, nothing leaks. */

type Fault = {
  readonly status?: number;
  readonly delayMs?: number;
  readonly drop?: boolean;
  readonly dropAfter?: boolean;
};

const FAULTS: readonly (readonly [string, Fault])[] = [
  ["answers 409", { status: 409 }],
  ["answers 410", { status: 410 }],
  ["answers 429", { status: 429 }],
  ["answers 500", { status: 500 }],
  ["answers 503", { status: 503 }],
  ["is slow", { delayMs: 300 }],
  ["dies before it takes the write", { drop: true }],
  ["dies after it took the write", { dropAfter: true }],
];
const WRITES = [
  ["the handle", "POST", "/ipamhandles"],
  ["the block", "PUT", "/ipamblocks/"],
] as const;
const NODE = "node-a";
const HANDLE = "net.c1";
const head = (kind: string, name: string) => ({ apiVersion: "crd.projectcalico.org/v1", kind, metadata: { name } });

let server: ApiServer;
let dir: string;
let client: HTTPKubeClient;
let allocator: Allocator;
let pending: { readonly fault: Fault; readonly method: string; readonly part: string } | undefined;

beforeAll(async () => {
  server = await createApiServer({
    manifests: KINDS.map(renderCRD),
    intercept: ({ method, path }) => {
      if (pending === undefined || method !== pending.method || !path.includes(pending.part)) return undefined;
      const { fault } = pending;
      pending = undefined;
      return fault;
    },
  });
  dir = mkdtempSync(join(tmpdir(), "gingham-faults-"));
  const kubeconfigPath = join(dir, "kubeconfig");
  writeFileSync(kubeconfigPath, server.adminKubeconfig(), { mode: 0o600 });
  client = new HTTPKubeClient({ credentials: await loadKubeConfig({ kubeconfigPath }), clock });
  await client.create(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: NODE } });
  await client.create(IP_POOLS, { ...head("IPPool", "pool"), spec: { cidr: "10.0.0.0/24", blockSize: 28 } });
  const sources = sourcesOf(listedObjects(client, NODE), NODE);
  allocator = createAllocator({ store: new KubeStore(client), sources, clock, random: Math.random, nodeName: NODE });
  await allocator.warmUp([4]);
});
afterAll(async () => {
  allocator.close();
  client.close();
  await server.close();
  rmSync(dir, { recursive: true });
});

/** Ordinals that anybody holds, after every stored block was found sound. */
async function held(): Promise<number> {
  const { items } = await client.list(IPAM_BLOCKS);
  for (const { spec } of items) expect(checkBlock(spec, clock.nowMs())).toEqual([]);
  return items.flatMap(({ spec }) => spec.allocations.filter((entry) => entry !== null)).length;
}

afterEach(async () => {
  expect(pending).toBeUndefined();
  expect(await held()).toBe(0);
  expect((await client.list(IPAM_HANDLES)).items).toEqual([]);
});

describe.each(FAULTS)("an API server that %s", (_, fault) => {
  it.each(WRITES)("when it writes %s of an ADD leaves one address or a clear error", async (_what, method, part) => {
    pending = { fault, method, part };
    const request = { handleID: HANDLE, attributes: { node: NODE }, families: [4] as const };
    const outcome = await allocator.assign(request).catch((error: unknown) => error);
    if (outcome instanceof Error) {
      const { code, msg } = toErrorObject(outcome, "1.0.0");
      // Try again later, or refused for good: never Internal, and the message names what was being written.
      expect([11, 106]).toContain(code);
      expect(msg).toMatch(/net\.c1|10\.0\.0\./);
    } else expect(await held()).toBe(1);
    await allocator.releaseByHandle(HANDLE);
  });

  it.each([
    ["the block", "PUT", "/ipamblocks/"],
    ["the handle's tombstone", "PUT", "/ipamhandles/"],
    ["the handle's end", "DELETE", "/ipamhandles/"],
  ])("when it writes %s of a DEL is answered by trying again", async (_what, method, part) => {
    const [allocation] = await allocator.assign({ handleID: HANDLE, attributes: { node: NODE }, families: [4] });
    if (allocation === undefined) throw new Error("no address");
    pending = { fault, method, part };
    const failed = await allocator.release([allocation]).then(
      () => false,
      () => true,
    );
    // What the sweep does with a record that says `releasing`.
    if (failed) await allocator.release([allocation]);
    await allocator.releaseByHandle(HANDLE);
  });
});

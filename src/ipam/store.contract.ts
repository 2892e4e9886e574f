// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, it } from "vitest";
import { IPAM_BLOCKS, type IPAMBlock } from "../crds/ipam-block.ts";
import { TEST_PREFIX } from "../lib/test-prefix.ts";
import { parseCIDR } from "../net/cidr.ts";
import { hostAffinity, pendingAffinity, withState } from "./affinity.ts";
import { newBlock } from "./block.ts";
import { newHandle } from "./handle.ts";
import type { IPAMStore, StoredKind, StoredKinds } from "./ports.ts";

const CIDR = parseCIDR("198.51.100.64/28");
const NOW = { ms: 1_787_395_200_123, ns: 1_787_395_200_123_456_789n };

/** Tests so far: each has names of its own, so that all can share a datastore. */
let tests = 0;
function named(suffix: string): string {
  return `${TEST_PREFIX}${tests}-${suffix}`;
}

function blockObject(): IPAMBlock {
  return {
    apiVersion: "crd.projectcalico.org/v1",
    kind: IPAM_BLOCKS.kind,
    metadata: { name: named("block") },
    spec: newBlock(CIDR, hostAffinity(named("node-a")), NOW),
  };
}

/**
 * What every IPAMStore does. `make` gives one, which may be in use: names of objects begin with TEST_PREFIX.
 * `makeWithoutStatus` gives one whose blocks have no status.
 */
export function describeStore(
  name: string,
  make: () => Promise<IPAMStore> | IPAMStore,
  makeWithoutStatus?: () => Promise<IPAMStore> | IPAMStore,
): void {
  const samples: { readonly [K in StoredKind]: () => StoredKinds[K] } = {
    block: blockObject,
    handle: () => newHandle(named("net.C1"), { "198.51.100.64/28": 1 }),
    affinity: () => pendingAffinity(named("node-a"), CIDR),
  };

  async function created<K extends StoredKind>(store: IPAMStore, kind: K): Promise<StoredKinds[K]> {
    const outcome = await store.create(kind, samples[kind]());
    if (outcome.kind !== "ok") throw new Error(`create: ${outcome.kind}`);
    return outcome.object;
  }

  /** What a list has of this test. */
  async function listed<K extends StoredKind>(store: IPAMStore, kind: K): Promise<readonly StoredKinds[K][]> {
    return (await Array.fromAsync(store.pages(kind)))
      .flat()
      .filter(({ metadata }) => metadata.name.startsWith(named("")));
  }

  describe(`${name} as an IPAMStore`, () => {
    beforeEach(() => {
      tests++;
    });

    it.each(["block", "handle", "affinity"] as const)("creates, reads and lists a %s just as it was", async (kind) => {
      const store = await make();
      const object = await created(store, kind);
      expect(object.metadata.resourceVersion).toBeTruthy();
      expect(object.metadata.uid).toBeTruthy();
      expect(object.spec).toEqual(samples[kind]().spec);
      expect(await store.get(kind, object.metadata.name)).toEqual(object);
      expect(await listed(store, kind)).toEqual([object]);
      expect(await store.create(kind, samples[kind]())).toEqual({ kind: "exists" });
    });

    it("keeps sequence numbers beyond 2^53 exact through a write", async () => {
      const store = await make();
      const block = await created(store, "block");
      const spec = { ...block.spec, sequenceNumber: NOW.ns + 1n, sequenceNumberForAllocation: { "3": NOW.ns } };
      expect(await store.update("block", { ...block, spec })).toMatchObject({ kind: "ok", object: { spec } });
      expect((await store.get("block", block.metadata.name))?.spec).toEqual(spec);
    });

    it("lets the first of two writers win", async () => {
      const store = await make();
      const affinity = await created(store, "affinity");
      expect((await store.update("affinity", withState(affinity, "confirmed"))).kind).toBe("ok");
      expect(await store.update("affinity", withState(affinity, "pendingDeletion"))).toEqual({ kind: "conflict" });
      expect((await store.get("affinity", affinity.metadata.name))?.spec.state).toBe("confirmed");
    });

    it("finds nothing where nothing is", async () => {
      const store = await make();
      expect(await store.get("handle", named("net.c9"))).toBeUndefined();
      const handle = await created(store, "handle");
      expect(await store.delete("handle", handle)).toEqual({ kind: "ok" });
      expect(await store.get("handle", handle.metadata.name)).toBeUndefined();
      expect((await store.update("handle", handle)).kind).toBe("notFound");
      expect(await store.delete("handle", handle)).toEqual({ kind: "ok" });
    });

    it.each(["block", "handle", "affinity"] as const)("does not delete a %s that has changed", async (kind) => {
      const store = await make();
      const object = await created(store, kind);
      const labels = { ...object.metadata.labels, changed: "yes" };
      const changed = await store.update(kind, { ...object, metadata: { ...object.metadata, labels } });
      expect(changed.kind).toBe("ok");
      expect(await store.delete(kind, object)).toEqual({ kind: "conflict" });
      expect(await store.get(kind, object.metadata.name)).toBeDefined();
    });

    it.each(["block", "handle", "affinity"] as const)(
      "finishes the deletion of a %s that died half-way",
      async (kind) => {
        const store = await make();
        const object = await created(store, kind);
        const deleted = kind === "affinity" ? "true" : true;
        // The mark of each kind has its own type.
        const marked = { ...object, spec: { ...object.spec, deleted } } as typeof object;
        expect((await store.update(kind, marked)).kind).toBe("ok");
        expect(await listed(store, kind)).toHaveLength(1);
        expect(await store.get(kind, object.metadata.name)).toBeUndefined();
        expect(await listed(store, kind)).toEqual([]);
        expect((await store.create(kind, samples[kind]())).kind).toBe("ok");
      },
    );

    it("keeps a block's status apart from its spec", async () => {
      const store = await make();
      const block = await created(store, "block");
      const status = { node: "node-a", used: 1, free: 15, borrowed: 0 };
      const counted = await store.updateBlockStatus(block, status);
      if (counted.kind !== "ok") throw new Error(counted.kind);
      expect(counted.object).toMatchObject({ spec: block.spec, status });
      expect(counted.object.metadata.resourceVersion).not.toBe(block.metadata.resourceVersion);
      const { status: _status, ...without } = counted.object;
      expect(await store.update("block", without)).toMatchObject({ kind: "ok", object: { status } });
      expect(await store.updateBlockStatus(block, status)).toEqual({ kind: "conflict" });
    });

    if (makeWithoutStatus) {
      it("says when blocks have no status", async () => {
        const store = await makeWithoutStatus();
        const block = await created(store, "block");
        const status = { used: 0, free: 16, borrowed: 0 };
        expect(await store.updateBlockStatus(block, status)).toEqual({ kind: "unsupported" });
        await store.delete("block", block);
        expect(await store.updateBlockStatus(block, status)).toEqual({ kind: "notFound" });
      });
    }
  });
}

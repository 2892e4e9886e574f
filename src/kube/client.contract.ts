// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LEASES, type Lease, PODS, type Pod } from "../crds/core.ts";
import { IP_POOLS, type IPPool } from "../crds/ip-pool.ts";
import { IPAM_BLOCKS, type IPAMBlock, parseIPAMBlock } from "../crds/ipam-block.ts";
import { IPAM_HANDLES, type IPAMHandle } from "../crds/ipam-handle.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import { TEST_PREFIX } from "../lib/test-prefix.ts";
import type { KubeClient, WatchEvent } from "./api.ts";
import { AlreadyExistsError, ConflictError, GoneError, InvalidError, NotFoundError, RequestError } from "./errors.ts";

/** An API server that has our kinds and the namespaces default and kube-system. */
export interface ContractServer {
  readonly client: KubeClient;
  /** Forgets old versions, so that a watch from one of them gets 410. Absent where that cannot be forced. */
  readonly compact?: () => void | Promise<void>;
  readonly stop?: () => void | Promise<void>;
}

const SEQUENCE = 1787395200123456789n;

/**
 * What every KubeClient on every API server does. Each test makes objects of its own name, which begins with TEST_PREFIX;
 * the networks in them are those for documentation (RFC 5737), and no node is selected by its pools.
 */
export function describeKubeClient(name: string, start: () => ContractServer | Promise<ContractServer>): void {
  describe(`KubeClient on ${name}`, () => {
    let server: ContractServer;
    let client: KubeClient;
    beforeAll(async () => {
      server = await start();
      client = server.client;
    });
    afterAll(async () => await server.stop?.());
    const context = { client: () => client, server: () => server };
    describeObjects(context);
    describeWrites(context);
    describeLists(context);
    describeWatches(context);
  });
}

interface Context {
  readonly client: () => KubeClient;
  readonly server: () => ContractServer;
}

function describeObjects({ client }: Context): void {
  test("create() and get() keep 64-bit integers exact, and small ones become bigint", async () => {
    const created = await client().create(IPAM_BLOCKS, block("198.51.100.0/30", { "1": SEQUENCE, "2": 7n }));
    expect(created.spec.sequenceNumber).toBe(SEQUENCE);
    expect(created.metadata.uid).toBeTruthy();
    const read = await client().get(IPAM_BLOCKS, created.metadata.name);
    expect(read).toEqual(created);
    expect(read.spec.sequenceNumberForAllocation).toEqual({ "1": SEQUENCE, "2": 7n });
  });

  test("update() writes 64-bit integers exactly and gives a new resourceVersion", async () => {
    const created = await client().create(IPAM_BLOCKS, block("198.51.100.4/30"));
    const spec = { ...created.spec, sequenceNumber: SEQUENCE + 1n };
    const updated = await client().update(IPAM_BLOCKS, { ...created, spec });
    expect(updated.metadata.resourceVersion).not.toBe(created.metadata.resourceVersion);
    expect((await client().get(IPAM_BLOCKS, created.metadata.name)).spec.sequenceNumber).toBe(SEQUENCE + 1n);
  });

  test("a field that we do not know survives read-modify-write", async () => {
    const given = block("198.51.100.8/30");
    const attributes = [{ handle_id: "h", newer: "field" }];
    const newer = parseIPAMBlock({ ...given, spec: { ...given.spec, attributes, newest: { a: 1 } } });
    const created = await client().create(IPAM_BLOCKS, newer);
    const updated = await client().update(IPAM_BLOCKS, { ...created, spec: { ...created.spec, sequenceNumber: 5n } });
    expect(updated.spec).toMatchObject({ attributes: [{ handle_id: "h", newer: "field" }], newest: { a: 1 } });
  });

  test("a free address stays null", async () => {
    const created = await client().create(IPAM_BLOCKS, block("198.51.100.12/30"));
    expect((await client().get(IPAM_BLOCKS, created.metadata.name)).spec.allocations).toEqual([null, null, null, null]);
  });

  test("get() of nothing is NotFoundError that names the object", async () => {
    const error = await failure(client().get(IPAM_HANDLES, named("nobody")));
    expect(error).toBeInstanceOf(NotFoundError);
    expect(error).toMatchObject({
      status: 404,
      objectName: named("nobody"),
      resource: "ipamhandles.crd.projectcalico.org",
    });
  });

  test("the status subresource and the object leave each other alone", async () => {
    const created = await client().create(IPAM_BLOCKS, block("198.51.100.16/30"));
    const status = { node: "a", used: 1, free: 3, borrowed: 0 };
    const counted = await client().update(
      IPAM_BLOCKS,
      { ...created, status, spec: { ...created.spec, affinity: "host:thief" } },
      { subresource: "status" },
    );
    expect(counted.status).toEqual(status);
    expect(counted.spec.affinity).toBe(created.spec.affinity);
    const { status: _, ...withoutStatus } = counted;
    const written = await client().update(IPAM_BLOCKS, {
      ...withoutStatus,
      spec: { ...counted.spec, sequenceNumber: 9n },
    });
    expect(written.status).toEqual(status);
    expect(written.spec.sequenceNumber).toBe(9n);
  });

  test("a status of Kubernetes' own kinds comes with annotations, if UID and resourceVersion are the object's", async () => {
    // Nobody starts it: it has a scheduler that does not exist.
    const spec = { schedulerName: "nobody", containers: [{ name: "main", image: "none" }] } as Pod["spec"];
    const name = `${TEST_PREFIX}-annotated`;
    const metadata = { name, namespace: "default", annotations: { kept: "yes" } };
    const created = await client().create(PODS, { apiVersion: "v1", kind: "Pod", metadata, ...(spec && { spec }) });
    const { uid, resourceVersion } = created.metadata;
    const patch = async (given: object): Promise<Pod> =>
      await client().patch(
        PODS,
        name,
        { type: "strategic", body: { metadata: { ...given, annotations: { "example.com/a": "" } } } },
        { namespace: "default", subresource: "status" },
      );
    await expect(patch({ uid: "another" })).rejects.toSatisfy(isPreconditionFailed);
    await expect(patch({ uid, resourceVersion: "1" })).rejects.toSatisfy(isPreconditionFailed);
    const patched = await patch({ uid, resourceVersion });
    expect(patched.metadata.annotations).toEqual({ kept: "yes", "example.com/a": "" });
    expect(patched.spec).toEqual(created.spec);
    await client().delete(PODS, name, { namespace: "default" });
  });

  test("an object in two namespaces is two objects", async () => {
    const first = await client().create(LEASES, lease("default", "twice"));
    const second = await client().create(LEASES, lease("kube-system", "twice"));
    expect(first.metadata.uid).not.toBe(second.metadata.uid);
    const read = await client().get(LEASES, named("twice"), { namespace: "kube-system" });
    expect(read.metadata.uid).toBe(second.metadata.uid);
  });

  test("an aborted call rejects with the signal's reason", async () => {
    const reason = new Error("hung up");
    expect(await failure(client().get(IP_POOLS, "any", { signal: AbortSignal.abort(reason) }))).toBe(reason);
  });
}

function describeWrites({ client }: Context): void {
  test("create() of a name that exists is AlreadyExistsError", async () => {
    await client().create(IPAM_HANDLES, handle("taken"));
    expect(await failure(client().create(IPAM_HANDLES, handle("taken")))).toBeInstanceOf(AlreadyExistsError);
  });

  test("create() of an invalid name is InvalidError with the field", async () => {
    const error = await failure(client().create(IPAM_HANDLES, handle("under_score")));
    expect(error).toBeInstanceOf(InvalidError);
    expect((error as InvalidError).causes.map((cause) => cause.field)).toContain("metadata.name");
  });

  test("update() with an old resourceVersion is ConflictError and changes nothing", async () => {
    const created = await client().create(IPAM_HANDLES, handle("stale"));
    await client().update(IPAM_HANDLES, { ...created, spec: { ...created.spec, block: { "10.0.0.0/26": 1 } } });
    const late = { ...created, spec: { ...created.spec, block: { "10.0.0.0/26": 2 } } };
    expect(await failure(client().update(IPAM_HANDLES, late))).toBeInstanceOf(ConflictError);
    expect((await client().get(IPAM_HANDLES, named("stale"))).spec.block).toEqual({ "10.0.0.0/26": 1 });
  });

  test("of many updates from one version exactly one wins", async () => {
    const created = await client().create(IPAM_HANDLES, handle("race"));
    const results = await Promise.allSettled(
      [1, 2, 3, 4, 5].map((n) =>
        client().update(IPAM_HANDLES, { ...created, spec: { ...created.spec, block: { "10.0.0.0/26": n } } }),
      ),
    );
    expect(results.filter((result) => result.status === "fulfilled")).toHaveLength(1);
    for (const result of results) if (result.status === "rejected") expect(result.reason).toBeInstanceOf(ConflictError);
  });

  test("update() of a custom resource without resourceVersion is InvalidError", async () => {
    const created = await client().create(IPAM_HANDLES, handle("blind"));
    const { resourceVersion: _, ...metadata } = created.metadata;
    expect(await failure(client().update(IPAM_HANDLES, { ...created, metadata }))).toBeInstanceOf(InvalidError);
  });

  test("update() of nothing is NotFoundError", async () => {
    const gone = await client().create(IPAM_HANDLES, handle("gone"));
    await client().delete(IPAM_HANDLES, named("gone"));
    expect(await failure(client().update(IPAM_HANDLES, gone))).toBeInstanceOf(NotFoundError);
  });

  test("update() that changes nothing keeps the resourceVersion", async () => {
    const created = await client().create(IPAM_HANDLES, handle("same"));
    const updated = await client().update(IPAM_HANDLES, created);
    expect(updated.metadata.resourceVersion).toBe(created.metadata.resourceVersion);
  });

  test("delete() with another uid is ConflictError, with the right one it deletes once", async () => {
    const created = await client().create(IPAM_HANDLES, handle("dying"));
    const other = { preconditions: { uid: "00000000-0000-4000-8000-00000000dead" } };
    expect(await failure(client().delete(IPAM_HANDLES, named("dying"), other))).toBeInstanceOf(ConflictError);
    const right = { preconditions: { uid: created.metadata.uid ?? "" } };
    await client().delete(IPAM_HANDLES, named("dying"), right);
    expect(await failure(client().delete(IPAM_HANDLES, named("dying"), right))).toBeInstanceOf(NotFoundError);
  });

  test("delete() with an old resourceVersion is ConflictError", async () => {
    const created = await client().create(IPAM_HANDLES, handle("moved"));
    await client().update(IPAM_HANDLES, { ...created, spec: { ...created.spec, block: { "10.0.0.0/26": 1 } } });
    const resourceVersion = created.metadata.resourceVersion ?? "";
    const late = client().delete(IPAM_HANDLES, named("moved"), { preconditions: { resourceVersion } });
    expect(await failure(late)).toBeInstanceOf(ConflictError);
  });

  test("a finalizer keeps a deleted object until it is taken off", async () => {
    const given = pool("kept", "203.0.113.0/26");
    const metadata = { ...given.metadata, finalizers: ["gingham.test/keep"] };
    await client().create(IP_POOLS, { ...given, metadata });
    await client().delete(IP_POOLS, named("kept"));
    const dying = await client().get(IP_POOLS, named("kept"));
    expect(dying.metadata.deletionTimestamp).toBeTruthy();
    await client().update(IP_POOLS, { ...dying, metadata: { ...dying.metadata, finalizers: [] } });
    expect(await failure(client().get(IP_POOLS, named("kept")))).toBeInstanceOf(NotFoundError);
  });

  test("patch() merges, and null takes away", async () => {
    await client().create(IP_POOLS, pool("merged", "203.0.113.64/26"));
    const body = { metadata: { labels: { a: "1" } }, spec: { disabled: true } };
    const on = await client().patch(IP_POOLS, named("merged"), { type: "merge", body });
    expect(on).toMatchObject({ ...body, spec: { cidr: "203.0.113.64/26", disabled: true } });
    const off = await client().patch(IP_POOLS, named("merged"), { type: "merge", body: { spec: { disabled: null } } });
    expect(off.spec.disabled).toBeUndefined();
  });

  test("patch() takes JSON patches and refuses one whose test fails", async () => {
    await client().create(IP_POOLS, pool("jsonpatched", "203.0.113.128/26"));
    const add = { op: "add", path: "/metadata/annotations", value: { "a/b": "1" } };
    const patched = await client().patch(IP_POOLS, named("jsonpatched"), { type: "json", body: [add] });
    expect(patched.metadata.annotations).toEqual({ "a/b": "1" });
    const wrong = [{ op: "test", path: "/metadata/annotations/a~1b", value: "2" }];
    const refused = client().patch(IP_POOLS, named("jsonpatched"), { type: "json", body: wrong });
    expect(await failure(refused)).toBeInstanceOf(InvalidError);
  });
}

function describeLists({ client }: Context): void {
  test("list() selects by label and field, in one page or many", async () => {
    const names = ["list-a", "list-b", "list-c", "list-d", "list-e"];
    for (const name of names)
      await client().create(IPAM_HANDLES, labelled(handle(name), { list: named("one"), of: named(name) }));
    const all = await client().list(IPAM_HANDLES, { labelSelector: `list=${named("one")}` });
    expect(all.items.map((item) => item.metadata.name)).toEqual(names.map(named));
    expect(all.resourceVersion).toBeTruthy();
    const paged = await client().list(IPAM_HANDLES, { labelSelector: `list=${named("one")}`, limit: 2 });
    expect(paged.items).toEqual(all.items);
    const some = await client().list(IPAM_HANDLES, {
      labelSelector: `list=${named("one")},of in (${named("list-b")},${named("list-d")})`,
    });
    expect(some.items.map((item) => item.metadata.name)).toEqual(["list-b", "list-d"].map(named));
    const one = await client().list(IPAM_HANDLES, { fieldSelector: `metadata.name=${named("list-c")}` });
    expect(one.items.map((item) => item.metadata.name)).toEqual([named("list-c")]);
    expect(one.items[0]).toMatchObject({ apiVersion: "crd.projectcalico.org/v1", kind: "IPAMHandle" });
  });

  test("listPages() hands out pages no larger than the limit", async () => {
    for (const name of ["page-a", "page-b", "page-c"])
      await client().create(IPAM_HANDLES, labelled(handle(name), { list: named("pages") }));
    const sizes: number[] = [];
    for await (const page of client().listPages(IPAM_HANDLES, { labelSelector: `list=${named("pages")}`, limit: 2 }))
      sizes.push(page.items.length);
    expect(sizes).toEqual([2, 1]);
  });

  test("list() of one namespace leaves the others out", async () => {
    for (const namespace of ["default", "kube-system"])
      await client().create(LEASES, labelled(lease(namespace, "spaced"), { list: named("spaces") }));
    const everywhere = await client().list(LEASES, { labelSelector: `list=${named("spaces")}` });
    expect(everywhere.items.map((item) => item.metadata.namespace)).toEqual(["default", "kube-system"]);
    const here = await client().list(LEASES, { labelSelector: `list=${named("spaces")}`, namespace: "default" });
    expect(here.items.map((item) => item.metadata.namespace)).toEqual(["default"]);
  });

  test("list() names a broken object and still returns the others", async () => {
    const good = labelled(block("198.51.100.20/30"), { list: named("broken") });
    await client().create(IPAM_BLOCKS, good);
    const { parse: _, ...raw } = IPAM_BLOCKS;
    const broken = labelled(block("198.51.100.24/30"), { list: named("broken") });
    await client().create(raw as Resource<IPAMBlock>, { ...broken, spec: { ...broken.spec, allocations: [null] } });
    const listed = await client().list(IPAM_BLOCKS, { labelSelector: `list=${named("broken")}` });
    expect(listed.items.map((item) => item.metadata.name)).toEqual([good.metadata.name]);
    expect(listed.invalid.map((error) => error.objectName)).toEqual([broken.metadata.name]);
  });

  test("list() refuses a selector that cannot be read", async () => {
    expect(await failure(client().list(IPAM_HANDLES, { labelSelector: "a=(" }))).toBeInstanceOf(RequestError);
  });
}

function describeWatches({ client, server }: Context): void {
  test("watch() tells of changes after the version, in order, and of nothing else", async () => {
    const kept = await client().create(IPAM_HANDLES, labelled(handle("seen-before"), { watch: named("one") }));
    const { resourceVersion } = await client().list(IPAM_HANDLES);
    const events = collect(client(), IPAM_HANDLES, { resourceVersion, labelSelector: `watch=${named("one")}` }, 5);
    const made = await client().create(IPAM_HANDLES, labelled(handle("seen"), { watch: named("one") }));
    await client().create(IPAM_HANDLES, labelled(handle("unseen"), { watch: named("two") }));
    await client().update(IPAM_HANDLES, { ...made, spec: { ...made.spec, block: { "10.0.0.0/26": 1 } } });
    await client().patch(IPAM_HANDLES, kept.metadata.name, { type: "merge", body: { metadata: { labels: null } } });
    await client().patch(IPAM_HANDLES, named("unseen"), {
      type: "merge",
      body: { metadata: { labels: { watch: named("one") } } },
    });
    await client().delete(IPAM_HANDLES, named("seen"));
    expect(await events).toEqual([
      "ADDED seen",
      "MODIFIED seen",
      "DELETED seen-before",
      "ADDED unseen",
      "DELETED seen",
    ]);
  });

  test("watch() from the past replays what happened since", async () => {
    const { resourceVersion } = await client().list(IPAM_HANDLES);
    await client().create(IPAM_HANDLES, labelled(handle("replayed"), { watch: named("past") }));
    await client().delete(IPAM_HANDLES, named("replayed"));
    const events = collect(client(), IPAM_HANDLES, { resourceVersion, labelSelector: `watch=${named("past")}` }, 2);
    expect(await events).toEqual(["ADDED replayed", "DELETED replayed"]);
  });

  test("watch() keeps 64-bit integers exact", async () => {
    const { resourceVersion } = await client().list(IPAM_BLOCKS);
    const created = await client().create(IPAM_BLOCKS, block("198.51.100.28/30"));
    for await (const event of client().watch(IPAM_BLOCKS, { resourceVersion, signal: AbortSignal.timeout(10_000) })) {
      if (event.type !== "ADDED" || event.object.metadata.uid !== created.metadata.uid) continue;
      expect(event.object.spec.sequenceNumber).toBe(SEQUENCE);
      return;
    }
    throw new Error("The watch ended without the block");
  });

  test("watch() ends when its signal aborts", async () => {
    const { resourceVersion } = await client().list(IPAM_HANDLES);
    const abort = new AbortController();
    const events = collect(
      client(),
      IPAM_HANDLES,
      { resourceVersion, signal: abort.signal, labelSelector: "no=one" },
      1,
    );
    abort.abort();
    expect(await events).toEqual([]);
  });

  test("watch() from a version that is gone is GoneError", async ({ skip }) => {
    const { compact } = server();
    if (compact === undefined) return skip("this server cannot be made to forget");
    const { resourceVersion } = await client().list(IPAM_HANDLES);
    await client().create(IPAM_HANDLES, handle("forgotten"));
    await compact();
    expect(await failure(collect(client(), IPAM_HANDLES, { resourceVersion }, 1))).toBeInstanceOf(GoneError);
  });
}

async function collect<T extends KubeObject>(
  client: KubeClient,
  resource: Resource<T>,
  options: { readonly resourceVersion: string; readonly labelSelector?: string; readonly signal?: AbortSignal },
  count: number,
): Promise<string[]> {
  const seen: string[] = [];
  for await (const event of client.watch(resource, { signal: AbortSignal.timeout(10_000), ...options })) {
    if (isObjectEvent(event)) seen.push(`${event.type} ${event.object.metadata.name.slice(TEST_PREFIX.length)}`);
    if (seen.length === count) break;
  }
  return seen;
}

function isObjectEvent<T>(event: WatchEvent<T>): event is Extract<WatchEvent<T>, { readonly object: T }> {
  return "object" in event;
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("The call succeeded");
}

/** The name, or the value of a label, that nobody else in the cluster has. */
function named(suffix: string): string {
  return TEST_PREFIX + suffix;
}

function block(cidr: string, sequenceNumberForAllocation: Record<string, bigint> = {}): IPAMBlock {
  const name = named(cidr.replace(/[./]/g, "-"));
  return parseIPAMBlock({
    apiVersion: "crd.projectcalico.org/v1",
    kind: "IPAMBlock",
    metadata: { name },
    spec: {
      cidr,
      affinity: `host:${named("a")}`,
      allocations: [null, null, null, null],
      unallocated: [0, 1, 2, 3],
      attributes: [],
      sequenceNumber: SEQUENCE,
      sequenceNumberForAllocation,
      deleted: false,
      strictAffinity: false,
    },
  });
}

function handle(suffix: string): IPAMHandle {
  const name = named(suffix);
  const spec = { handleID: name, block: {}, deleted: false };
  return { apiVersion: "crd.projectcalico.org/v1", kind: "IPAMHandle", metadata: { name }, spec };
}

function pool(suffix: string, cidr: string): IPPool {
  const metadata = { name: named(suffix) };
  const spec = { cidr, nodeSelector: "!all()" };
  return { apiVersion: "crd.projectcalico.org/v1", kind: "IPPool", metadata, spec };
}

function lease(namespace: string, suffix: string): Lease {
  const metadata = { name: named(suffix), namespace };
  return { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata, spec: {} };
}

function labelled<T extends KubeObject>(object: T, labels: Record<string, string>): T {
  return { ...object, metadata: { ...object.metadata, labels } };
}

/** Kubernetes answers another UID by 409 or by 422, which names the field. */
function isPreconditionFailed(error: unknown): boolean {
  return error instanceof ConflictError || error instanceof InvalidError;
}

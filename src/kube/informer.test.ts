// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { BLOCK_AFFINITIES, type BlockAffinity } from "../crds/block-affinity.ts";
import { InvalidObjectError } from "../crds/errors.ts";
import type { Resource } from "../crds/object.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { ServerError, UnreachableError } from "./errors.ts";
import { type Change, Informer, type InformerOptions } from "./informer.ts";
import { MemoryClient } from "./memory-client.ts";

type Options = InformerOptions<BlockAffinity, string>;

interface Setup {
  readonly client: MemoryClient;
  readonly clock: FakeClock;
  readonly informer: Informer<BlockAffinity, string>;
  readonly changes: string[];
  readonly errors: unknown[];
  readonly verbs: () => string[];
}

/** An informer that keeps `node/state` of affinities. */
function setUp(options: Partial<Options> = {}): Setup {
  const client = new MemoryClient();
  const clock = new FakeClock();
  const errors: unknown[] = [];
  const informer = new Informer<BlockAffinity, string>({
    client,
    resource: BLOCK_AFFINITIES,
    project: ({ spec }) => `${spec.node}/${spec.state}`,
    clock,
    random: () => 0,
    onError: (error) => errors.push(error),
    ...options,
  });
  const changes: string[] = [];
  informer.onChange((change) => changes.push(shown(change)));
  return { client, clock, informer, changes, errors, verbs: () => client.calls.map((call) => call.verb) };
}

function shown(change: Change<string>): string {
  return `${change.type} ${change.key} ${change.old ?? "-"} ${change.new ?? "-"}`;
}

function affinity(name: string, node: string, state: "pending" | "confirmed" = "confirmed"): BlockAffinity {
  return {
    apiVersion: "crd.projectcalico.org/v1",
    kind: "BlockAffinity",
    metadata: { name },
    spec: { cidr: "10.0.0.0/26", deleted: "false", node, state },
  };
}

test("synced is fulfilled when the list is in the store and told", async () => {
  const { client, informer, changes } = setUp();
  client.seed(BLOCK_AFFINITIES, affinity("a", "n1"));
  client.seed(BLOCK_AFFINITIES, affinity("b", "n2"));
  expect(informer.hasSynced).toBe(false);
  informer.start();
  await informer.synced;
  expect(informer.hasSynced).toBe(true);
  expect(changes).toEqual(["added a - n1/confirmed", "added b - n2/confirmed"]);
  expect([...informer.list()]).toEqual(["n1/confirmed", "n2/confirmed"]);
  expect(informer.get("a")).toBe("n1/confirmed");
  expect(informer.get("c")).toBeUndefined();
  await informer.stop();
});

test("changes are told one by one with old and new, in order", async () => {
  const { client, clock, informer, changes } = setUp();
  informer.start();
  await informer.synced;
  const made = await client.create(BLOCK_AFFINITIES, affinity("a", "n1", "pending"));
  await client.update(BLOCK_AFFINITIES, { ...made, spec: { ...made.spec, state: "confirmed" } });
  await client.delete(BLOCK_AFFINITIES, "a");
  await clock.advance(0);
  expect(changes).toEqual(["added a - n1/pending", "modified a n1/pending n1/confirmed", "deleted a n1/confirmed -"]);
  await informer.stop();
});

test("after a clean end the watch goes on from the last version, without a list", async () => {
  const { client, clock, informer, changes, verbs } = setUp();
  informer.start();
  await informer.synced;
  await client.create(BLOCK_AFFINITIES, affinity("a", "n1"));
  await clock.advance(0);
  client.endWatches();
  await client.create(BLOCK_AFFINITIES, affinity("b", "n2"));
  await clock.advance(0);
  expect(changes).toEqual(["added a - n1/confirmed", "added b - n2/confirmed"]);
  expect(verbs().filter((verb) => verb === "list")).toHaveLength(1);
  await informer.stop();
});

test("a bookmark moves the version on, so that a compaction costs no list", async () => {
  const { client, clock, informer, verbs } = setUp();
  informer.start();
  await informer.synced;
  await clock.advance(0);
  client.compact();
  client.sendBookmark(BLOCK_AFFINITIES);
  await clock.advance(0);
  client.endWatches();
  await clock.advance(0);
  expect(verbs()).toEqual(["list", "watch", "watch"]);
  await informer.stop();
});

test("410 brings a list at once, whose differences stand for what was missed", async () => {
  const { client, clock, informer, changes, verbs } = setUp();
  for (const [name, node] of [
    ["a", "n1"],
    ["b", "n2"],
    ["c", "n3"],
  ] as const)
    client.seed(BLOCK_AFFINITIES, affinity(name, node));
  informer.start();
  await informer.synced;
  changes.length = 0;
  const held = Promise.withResolvers<undefined>();
  client.onCall = ({ verb }) => (verb === "watch" ? held.promise : undefined);
  client.endWatches();
  await clock.advance(500);
  const b = await client.get(BLOCK_AFFINITIES, "b");
  await client.update(BLOCK_AFFINITIES, { ...b, spec: { ...b.spec, state: "pending" } });
  await client.delete(BLOCK_AFFINITIES, "c");
  await client.create(BLOCK_AFFINITIES, affinity("d", "n4"));
  client.compact();
  client.onCall = undefined;
  held.resolve(undefined);
  await clock.advance(0);
  expect(changes).toEqual(["deleted c n3/confirmed -", "modified b n2/confirmed n2/pending", "added d - n4/confirmed"]);
  expect(verbs().filter((verb) => verb === "list")).toHaveLength(2);
  await informer.stop();
});

test("failing lists are tried again with growing pauses from 0.25 to 15 s without luck, twice that with", async () => {
  for (const [random, first, last] of [
    [0, 250, 15_000],
    [0.999999, 500, 30_000],
  ] as const) {
    const { client, clock, informer, verbs, errors } = setUp({ random: () => random });
    const error = new ServerError({ verb: "list", resource: "blockaffinities" }, { status: 500 });
    client.onCall = ({ verb }) => (verb === "list" ? { kind: "fail", error } : undefined);
    informer.start();
    await clock.advance(first - 1);
    expect(verbs()).toHaveLength(1);
    await clock.advance(1);
    expect(verbs()).toHaveLength(2);
    await clock.advance(120_000);
    const before = verbs().length;
    await clock.advance(last * 4);
    expect(verbs().length - before).toBe(4);
    expect(errors[0]).toBe(error);
    client.onCall = undefined;
    await clock.advance(last);
    await informer.synced;
    await informer.stop();
  }
});

test("a watch that the server ends at once each time is not asked again without a pause", async () => {
  const { client, clock, informer, verbs } = setUp();
  client.onCall = ({ verb }) => {
    if (verb === "watch") setImmediate(() => client.endWatches());
    return undefined;
  };
  informer.start();
  await informer.synced;
  await clock.advance(10_000);
  expect(verbs().length).toBeLessThan(12);
  await informer.stop();
});

test("a connection that breaks is watched anew after a pause, from the last version", async () => {
  const { client, clock, informer, changes, verbs } = setUp();
  informer.start();
  await informer.synced;
  await clock.advance(0);
  client.endWatches(new UnreachableError({ verb: "watch", resource: "blockaffinities" }, "cut"));
  await client.create(BLOCK_AFFINITIES, affinity("a", "n1"));
  await clock.advance(249);
  expect(changes).toEqual([]);
  await clock.advance(1);
  expect(changes).toEqual(["added a - n1/confirmed"]);
  expect(verbs().filter((verb) => verb === "list")).toHaveLength(1);
  await informer.stop();
});

test("a watch that stays silent beyond its time is replaced", async () => {
  const { client, clock, informer, verbs, errors } = setUp();
  informer.start();
  await informer.synced;
  await clock.advance(200_000);
  await client.create(BLOCK_AFFINITIES, affinity("a", "n1"));
  await clock.advance(329_000);
  expect(verbs().filter((verb) => verb === "watch")).toHaveLength(1);
  await clock.advance(1_000);
  expect(verbs().filter((verb) => verb === "watch")).toHaveLength(2);
  expect(errors).toHaveLength(1);
  await informer.stop();
  expect(clock.sleeping).toBe(0);
});

test("a broken object is reported, keeps its last good state, and hides no other", async () => {
  const { client, clock, informer, changes, errors } = setUp();
  const good = client.seed(BLOCK_AFFINITIES, affinity("a", "n1"));
  const { parse: _, ...raw } = BLOCK_AFFINITIES;
  const unchecked: Resource<BlockAffinity> = raw;
  const { cidr: __, ...broken } = affinity("b", "n2").spec;
  client.seed(unchecked, { ...affinity("b", "n2"), spec: broken as BlockAffinity["spec"] });
  informer.start();
  await informer.synced;
  expect([...informer.keys()]).toEqual(["a"]);
  expect(errors).toMatchObject([{ objectName: "b", field: "spec.cidr" }]);
  expect(errors[0]).toBeInstanceOf(InvalidObjectError);
  await client.update(unchecked, { ...good, spec: broken as BlockAffinity["spec"] });
  await clock.advance(0);
  expect(informer.get("a")).toBe("n1/confirmed");
  await client.delete(unchecked, "a");
  await clock.advance(0);
  expect(changes).toEqual(["added a - n1/confirmed", "deleted a n1/confirmed -"]);
  await informer.stop();
});

test("a handler or projection that throws is reported, and the others go on", async () => {
  const failure = new Error("no");
  const { client, informer, changes, errors } = setUp({
    project: ({ metadata, spec }) => {
      if (metadata.name === "bad") throw failure;
      return spec.node;
    },
  });
  informer.onChange(() => {
    throw failure;
  });
  const after: string[] = [];
  const off = informer.onChange((change) => after.push(change.key));
  client.seed(BLOCK_AFFINITIES, affinity("bad", "n0"));
  client.seed(BLOCK_AFFINITIES, affinity("good", "n1"));
  informer.start();
  await informer.synced;
  off();
  expect(changes).toEqual(["added good - n1"]);
  expect(after).toEqual(["good"]);
  expect(errors).toMatchObject([{ message: "Cannot use bad", cause: failure }, failure]);
  await informer.stop();
});

test("equal() keeps quiet about versions that mean the same", async () => {
  const { client, clock, informer, changes } = setUp({ equal: (a, b) => a === b });
  const made = client.seed(BLOCK_AFFINITIES, affinity("a", "n1"));
  informer.start();
  await informer.synced;
  await client.update(BLOCK_AFFINITIES, { ...made, metadata: { ...made.metadata, labels: { a: "b" } } });
  await clock.advance(0);
  expect(changes).toHaveLength(1);
  await informer.stop();
});

test("a list of many pages is projected page by page, and of one that fails half-way nothing is kept", async () => {
  const { client, clock, informer, changes } = setUp({ pageSize: 2 });
  for (const name of ["a", "b", "c", "d", "e"]) client.seed(BLOCK_AFFINITIES, affinity(name, name));
  let lists = 0;
  const error = new ServerError({ verb: "list", resource: "blockaffinities" }, { status: 500 });
  client.onCall = ({ verb }) => (verb === "list" && ++lists === 2 ? { kind: "fail", error } : undefined);
  informer.start();
  await clock.advance(0);
  expect(changes).toEqual([]);
  await clock.advance(500);
  await informer.synced;
  expect(informer.size).toBe(5);
  await informer.stop();
});

test("stop() ends the watch and every timer, and before start() it does nothing", async () => {
  const idle = setUp();
  await idle.informer.stop();
  const { client, clock, informer, changes } = setUp();
  informer.start();
  await informer.synced;
  await informer.stop();
  await client.create(BLOCK_AFFINITIES, affinity("a", "n1"));
  await clock.advance(60_000);
  expect(changes).toEqual([]);
  expect(clock.sleeping).toBe(0);
});

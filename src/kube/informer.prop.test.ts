// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { BLOCK_AFFINITIES, type BlockAffinity } from "../crds/block-affinity.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { ServerError, UnreachableError } from "./errors.ts";
import { Informer } from "./informer.ts";
import { MemoryClient } from "./memory-client.ts";

const NAMES = ["a", "b", "c", "d"];
const TARGET = { verb: "watch", resource: "blockaffinities" };

type Write =
  | { readonly kind: "put"; readonly name: string; readonly node: string }
  | { readonly kind: "delete"; readonly name: string };

type Step =
  | Write
  /** Changes that no watch will ever tell. */
  | { readonly kind: "gap"; readonly writes: readonly Write[] }
  | { readonly kind: "endWatch" | "cutWatch" | "compact" | "bookmark" }
  | { readonly kind: "failCalls"; readonly on: boolean }
  | { readonly kind: "wait"; readonly ms: number };

const name = fc.constantFrom(...NAMES);
const write: fc.Arbitrary<Write> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("put" as const), name, node: fc.constantFrom("n1", "n2") }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), name }) },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 9, arbitrary: write },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("gap" as const), writes: fc.array(write, { minLength: 1 }) }) },
  fc.record({
    kind: fc.constantFrom("endWatch" as const, "cutWatch" as const, "compact" as const, "bookmark" as const),
  }),
  fc.record({ kind: fc.constant("failCalls" as const), on: fc.boolean() }),
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.constantFrom(0, 300, 5_000) }) },
);

async function play(client: MemoryClient, clock: FakeClock, outage: { on: boolean }, { ...next }: Step): Promise<void> {
  switch (next.kind) {
    case "put": {
      const object: BlockAffinity = {
        apiVersion: "crd.projectcalico.org/v1",
        kind: "BlockAffinity",
        metadata: { name: next.name },
        spec: { cidr: "10.0.0.0/26", deleted: "false", node: next.node, state: "confirmed" },
      };
      const { items } = await listed(client, outage);
      const old = items.find((item) => item.metadata.name === next.name);
      if (old === undefined) client.seed(BLOCK_AFFINITIES, object);
      else await client.update(BLOCK_AFFINITIES, { ...old, spec: object.spec });
      return;
    }
    case "delete":
      if ((await listed(client, outage)).items.some((item) => item.metadata.name === next.name))
        await client.delete(BLOCK_AFFINITIES, next.name);
      return;
    case "gap":
      await clock.advance(0);
      client.endWatches();
      for (const write of next.writes) await play(client, clock, outage, write);
      return client.compact();
    case "endWatch":
      return client.endWatches();
    case "cutWatch":
      return client.endWatches(new UnreachableError(TARGET, "cut"));
    case "compact":
      return client.compact();
    case "bookmark":
      return client.sendBookmark(BLOCK_AFFINITIES);
    case "failCalls":
      outage.on = next.on;
      return;
    case "wait":
      return await clock.advance(next.ms);
    default:
      next satisfies never;
  }
}

/** The server's own state, past an outage. */
async function listed(
  client: MemoryClient,
  outage: { on: boolean },
): Promise<{ readonly items: readonly BlockAffinity[] }> {
  const { on } = outage;
  outage.on = false;
  const result = await client.list(BLOCK_AFFINITIES);
  outage.on = on;
  return result;
}

test("whatever happens, the store ends as the server is, and the changes told lead there without a gap", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const client = new MemoryClient();
      const clock = new FakeClock();
      const outage = { on: false };
      const error = new ServerError(TARGET, { status: 500 });
      client.onCall = ({ verb }) =>
        outage.on && (verb === "list" || verb === "watch") ? { kind: "fail", error } : undefined;
      const informer = new Informer<BlockAffinity, string>({
        client,
        resource: BLOCK_AFFINITIES,
        project: ({ spec }) => spec.node,
        clock,
        random: () => 0.5,
        pageSize: 3,
      });
      const replayed = new Map<string, string>();
      const gaps: unknown[] = [];
      informer.onChange((change) => {
        if (replayed.get(change.key) !== change.old) gaps.push(change);
        if (change.new === undefined) replayed.delete(change.key);
        else replayed.set(change.key, change.new);
      });
      informer.start();
      for (const next of steps) await play(client, clock, outage, next);
      outage.on = false;
      await clock.advance(60_000);

      const { items } = await client.list(BLOCK_AFFINITIES);
      const truth = items.map((item): [string, string] => [item.metadata.name, item.spec.node]);
      const held = [...informer.keys()].map((key): [string, string] => [key, informer.get(key) ?? ""]);
      expect(new Map(held)).toEqual(new Map(truth));
      expect(replayed).toEqual(new Map(truth));
      expect(gaps).toEqual([]);
      expect(informer.hasSynced).toBe(true);
      await informer.stop();
    }),
  );
});

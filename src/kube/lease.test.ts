// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { LEASES } from "../crds/core.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { LeadershipLostError, UnreachableError } from "./errors.ts";
import { runAsLeader } from "./lease.ts";
import { MemoryClient } from "./memory-client.ts";

interface Contender {
  readonly done: Promise<unknown>;
  readonly events: string[];
  readonly stop: () => void;
}

function contend(client: MemoryClient, clock: FakeClock, identity: string): Contender {
  const abort = new AbortController();
  const events: string[] = [];
  const options = { client, namespace: "kube-system", name: "gingham", identity, clock, random: () => 0 };
  const lead = async (signal: AbortSignal): Promise<void> => {
    events.push("leads");
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    events.push("stops");
  };
  const done = runAsLeader(options, lead, abort.signal).catch((error: unknown) => error);
  return { done, events, stop: () => abort.abort() };
}

const DOWN = new UnreachableError({ verb: "update", resource: "leases" }, "down");

test("the first leads and renews, the second waits", async () => {
  const client = new MemoryClient();
  const clock = new FakeClock();
  const a = contend(client, clock, "a");
  await clock.advance(0);
  const b = contend(client, clock, "b");
  await clock.advance(60_000);
  expect(a.events).toEqual(["leads"]);
  expect(b.events).toEqual([]);
  const { spec } = await client.get(LEASES, "gingham", { namespace: "kube-system" });
  expect(spec).toMatchObject({ holderIdentity: "a", leaseDurationSeconds: 15, leaseTransitions: 0 });
  expect(spec?.renewTime).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  a.stop();
  b.stop();
});

test("a leader that stops lets go, and the next one leads within a look", async () => {
  const client = new MemoryClient();
  const clock = new FakeClock();
  const a = contend(client, clock, "a");
  const b = contend(client, clock, "b");
  await clock.advance(5_000);
  a.stop();
  expect(await a.done).toBeUndefined();
  await clock.advance(2_000);
  expect(b.events).toEqual(["leads"]);
  expect((await client.get(LEASES, "gingham", { namespace: "kube-system" })).spec?.leaseTransitions).toBe(1);
  b.stop();
});

test("a leader that is cut off stops before another may begin", async () => {
  const client = new MemoryClient();
  const clock = new FakeClock();
  const a = contend(client, clock, "a");
  await clock.advance(0);
  const b = contend(client, clock, "b");
  await clock.advance(5_000);
  client.onCall = ({ object }) =>
    (object as { spec?: { holderIdentity?: string } } | undefined)?.spec?.holderIdentity === "a"
      ? { kind: "fail", error: DOWN }
      : undefined;
  await clock.advance(11_000);
  expect(a.events).toEqual(["leads", "stops"]);
  expect(await a.done).toBeInstanceOf(LeadershipLostError);
  expect(b.events).toEqual([]);
  await clock.advance(10_000);
  expect(b.events).toEqual(["leads"]);
  b.stop();
});

test("a leader whose Lease another one took stops at once", async () => {
  const client = new MemoryClient();
  const clock = new FakeClock();
  const a = contend(client, clock, "a");
  await clock.advance(0);
  const lease = await client.get(LEASES, "gingham", { namespace: "kube-system" });
  await client.update(LEASES, { ...lease, spec: { ...lease.spec, holderIdentity: "thief" } });
  await clock.advance(2_000);
  expect(await a.done).toMatchObject({
    code: "LeadershipLost",
    message: expect.stringContaining("thief holds it") as string,
  });
});

/** The answer to the first renewal gets lost; the renewal itself is taken. */
function loseFirstRenewal(client: MemoryClient): { readonly isLost: boolean } {
  const renewal = { isLost: false };
  client.onCall = ({ verb }) => {
    if (verb !== "update" || renewal.isLost) return undefined;
    renewal.isLost = true;
    return { kind: "loseAnswer", error: DOWN };
  };
  return renewal;
}

test("a renewal whose answer is lost does not end the leadership", async () => {
  const client = new MemoryClient();
  const clock = new FakeClock();
  const a = contend(client, clock, "a");
  await clock.advance(0);
  loseFirstRenewal(client);
  await clock.advance(60_000);
  expect(a.events).toEqual(["leads"]);
  a.stop();
  expect(await a.done).toBeUndefined();
});

test("a leader that stops without the answer of its last renewal lets go all the same", async () => {
  const client = new MemoryClient();
  const clock = new FakeClock();
  const a = contend(client, clock, "a");
  await clock.advance(0);
  const renewal = loseFirstRenewal(client);
  while (!renewal.isLost) await clock.advance(100);
  a.stop();
  expect(await a.done).toBeUndefined();
  expect((await client.get(LEASES, "gingham", { namespace: "kube-system" })).spec?.holderIdentity).toBe("");
});

test("an error of the leader's work lets go of the Lease and is told", async () => {
  const client = new MemoryClient();
  const clock = new FakeClock();
  const options = { client, namespace: "kube-system", name: "gingham", identity: "a", clock, random: () => 0 };
  const failure = new Error("no");
  const { signal } = new AbortController();
  await expect(runAsLeader(options, () => Promise.reject(failure), signal)).rejects.toBe(failure);
  expect((await client.get(LEASES, "gingham", { namespace: "kube-system" })).spec?.holderIdentity).toBe("");
});

// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { BLOCK_AFFINITIES, type BlockAffinity } from "../crds/block-affinity.ts";
import { IPAM_HANDLES, type IPAMHandle } from "../crds/ipam-handle.ts";
import { InvalidError, NotFoundError, ServerError } from "./errors.ts";
import { MemoryClient } from "./memory-client.ts";
import { deleteTombstoned, finishDelete, getLive, isTombstone } from "./tombstone.ts";

const HANDLE: IPAMHandle = {
  apiVersion: "crd.projectcalico.org/v1",
  kind: "IPAMHandle",
  metadata: { name: "net.abc" },
  spec: { handleID: "net.ABC", block: { "10.0.0.0/26": 1 }, deleted: false },
};
const AFFINITY: BlockAffinity = {
  apiVersion: "crd.projectcalico.org/v1",
  kind: "BlockAffinity",
  metadata: { name: "a-10-0-0-0-26" },
  spec: { cidr: "10.0.0.0/26", deleted: "false", node: "a", state: "confirmed" },
};

test("deleteTombstoned() marks under compare-and-swap, then deletes by uid alone", async () => {
  const client = new MemoryClient();
  const handle = await client.create(IPAM_HANDLES, HANDLE);
  expect(await deleteTombstoned(client, IPAM_HANDLES, handle)).toEqual({ kind: "ok" });
  expect(client.calls.map((call) => call.verb)).toEqual(["create", "update", "delete"]);
  expect(client.calls[1]?.object).toEqual({ ...handle, spec: { ...handle.spec, deleted: true } });
});

test("deleteTombstoned() marks an affinity with a string", async () => {
  const client = new MemoryClient();
  await deleteTombstoned(client, BLOCK_AFFINITIES, await client.create(BLOCK_AFFINITIES, AFFINITY));
  expect(client.calls[1]?.object).toMatchObject({ spec: { deleted: "true" } });
});

test("deleteTombstoned() is a conflict when somebody changed the object, which stays", async () => {
  const client = new MemoryClient();
  const handle = await client.create(IPAM_HANDLES, HANDLE);
  await client.update(IPAM_HANDLES, { ...handle, spec: { ...handle.spec, block: {} } });
  expect(await deleteTombstoned(client, IPAM_HANDLES, handle)).toEqual({ kind: "conflict" });
  expect(isTombstone(await client.get(IPAM_HANDLES, "net.abc"))).toBe(false);
});

test("deleteTombstoned() of an object that is gone is notFound", async () => {
  const client = new MemoryClient();
  const handle = await client.create(IPAM_HANDLES, HANDLE);
  await client.delete(IPAM_HANDLES, "net.abc");
  expect(await deleteTombstoned(client, IPAM_HANDLES, handle)).toEqual({ kind: "notFound" });
});

test("deleteTombstoned() is ok when another client finishes the delete first", async () => {
  const client = new MemoryClient();
  const handle = await client.create(IPAM_HANDLES, HANDLE);
  client.onCall = async ({ verb }) => {
    if (verb !== "delete") return undefined;
    client.onCall = undefined;
    await client.delete(IPAM_HANDLES, "net.abc");
    await client.create(IPAM_HANDLES, HANDLE);
    return undefined;
  };
  expect(await deleteTombstoned(client, IPAM_HANDLES, handle)).toEqual({ kind: "ok" });
  expect(isTombstone(await client.get(IPAM_HANDLES, "net.abc"))).toBe(false);
});

test("finishDelete() leaves an object alone that took the name since", async () => {
  const client = new MemoryClient();
  const handle = await client.create(IPAM_HANDLES, HANDLE);
  await client.delete(IPAM_HANDLES, "net.abc");
  await client.create(IPAM_HANDLES, HANDLE);
  expect(await finishDelete(client, IPAM_HANDLES, handle)).toEqual({ kind: "notFound" });
  await client.get(IPAM_HANDLES, "net.abc");
});

test("finishDelete() reads the fields of a 422", async () => {
  const client = new MemoryClient();
  const handle = await client.create(IPAM_HANDLES, HANDLE);
  const target = { verb: "delete", resource: "ipamhandles" };
  for (const [field, kind] of [
    ["metadata.uid", "notFound"],
    ["metadata.resourceVersion", "conflict"],
  ]) {
    const error = new InvalidError(target, { status: 422, causes: [{ field: field ?? "" }] });
    client.onCall = () => ({ kind: "fail", error });
    expect(await finishDelete(client, IPAM_HANDLES, handle)).toEqual({ kind });
  }
});

test("a delete whose answer is lost is finished by the next getLive()", async () => {
  const client = new MemoryClient();
  const handle = await client.create(IPAM_HANDLES, HANDLE);
  const error = new ServerError({ verb: "update", resource: "ipamhandles" }, { status: 500 });
  client.onCall = ({ verb }) => (verb === "update" ? { kind: "loseAnswer", error } : undefined);
  await expect(deleteTombstoned(client, IPAM_HANDLES, handle)).rejects.toBe(error);
  expect(isTombstone(await client.get(IPAM_HANDLES, "net.abc"))).toBe(true);
  expect(await getLive(client, IPAM_HANDLES, "net.abc")).toBeUndefined();
  await expect(client.get(IPAM_HANDLES, "net.abc")).rejects.toBeInstanceOf(NotFoundError);
});

test("getLive() of nothing is undefined, of a living object the object", async () => {
  const client = new MemoryClient();
  expect(await getLive(client, IPAM_HANDLES, "net.abc")).toBeUndefined();
  const handle = await client.create(IPAM_HANDLES, HANDLE);
  expect(await getLive(client, IPAM_HANDLES, "net.abc")).toEqual(handle);
});

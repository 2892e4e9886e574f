// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { NODES, PODS } from "../crds/core.ts";
import { describeKubeClient } from "./client.contract.ts";
import { MemoryClient } from "./memory-client.ts";

describeKubeClient("memory", () => {
  const client = new MemoryClient();
  return { client, compact: () => client.compact() };
});

const NODE = { apiVersion: "v1", kind: "Node", metadata: { name: "a" } };
const POD = { apiVersion: "v1", kind: "Pod", metadata: { name: "a", namespace: "default" } };

test("onCall fails a call before it happens", async () => {
  const client = new MemoryClient();
  const error = new Error("down");
  client.onCall = ({ verb }) => (verb === "create" ? { kind: "fail", error } : undefined);
  await expect(client.create(NODES, NODE)).rejects.toBe(error);
  expect((await client.list(NODES)).items).toEqual([]);
});

test("onCall loses the answer of a call that happened", async () => {
  const client = new MemoryClient();
  const error = new Error("lost");
  client.onCall = ({ verb }) => (verb === "create" ? { kind: "loseAnswer", error } : undefined);
  await expect(client.create(NODES, NODE)).rejects.toBe(error);
  expect((await client.list(NODES)).items).toHaveLength(1);
  expect(client.calls.map((call) => call.verb)).toEqual(["create", "list"]);
});

test("seed() keeps the status, which create() drops", async () => {
  const client = new MemoryClient();
  const status = { phase: "Running", podIP: "10.0.0.1" };
  client.seed(PODS, { ...POD, status });
  expect((await client.get(PODS, "a", { namespace: "default" })).status).toEqual(status);
  const created = await client.create(PODS, { ...POD, metadata: { name: "b", namespace: "default" }, status });
  expect(created.status).toBeUndefined();
});

test("patch() of a status joins conditions by type", async () => {
  const client = new MemoryClient();
  client.seed(NODES, { ...NODE, status: { conditions: [{ type: "Ready", status: "True" }] } } as typeof NODE);
  const body = { status: { conditions: [{ type: "NetworkUnavailable", status: "False" }] } };
  const patched = await client.patch(NODES, "a", { type: "strategic", body }, { subresource: "status" });
  expect(patched.status).toEqual({
    conditions: [
      { type: "Ready", status: "True" },
      { type: "NetworkUnavailable", status: "False" },
    ],
  });
});

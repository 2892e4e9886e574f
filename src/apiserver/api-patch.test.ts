// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { BLOCK_CRD, BLOCKS, block, type FakeClient, type Reply, startFake } from "./fake-client.ts";

const PODS = "/api/v1/namespaces/default/pods";
const STRATEGIC = { contentType: "application/strategic-merge-patch+json" };
const APPLY = { contentType: "application/apply-patch+yaml" };
const JSON_PATCH = { contentType: "application/json-patch+json" };
const MERGE = { contentType: "application/merge-patch+json" };

const POD = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "p" },
  spec: {
    containers: [
      { name: "a", image: "a:1", env: [{ name: "X", value: "1" }], ports: [{ containerPort: 80 }] },
      { name: "b", image: "b:1" },
    ],
    tolerations: [{ key: "t" }],
  },
};

describe("strategic merge patch", () => {
  async function patched(patch: unknown): Promise<Reply> {
    const api = await startFake();
    await api.call("POST", PODS, POD);
    return api.call("PATCH", `${PODS}/p`, patch, STRATEGIC);
  }

  it("merges containers by name and their variables by name", async () => {
    const env = [{ name: "Y", value: "2" }];
    const reply = await patched({ spec: { containers: [{ name: "a", image: "a:2", env }] } });
    expect(reply.body.at("spec", "containers")).toMatchObject([
      {
        name: "a",
        image: "a:2",
        env: [
          { name: "X", value: "1" },
          { name: "Y", value: "2" },
        ],
        ports: [{ containerPort: 80 }],
      },
      { name: "b", image: "b:1" },
    ]);
  });

  it("deletes an element, replaces a list without a key, and removes nulls", async () => {
    const containers = [{ name: "a", $patch: "delete" }];
    const reply = await patched({
      spec: { containers, tolerations: [{ key: "u" }], $setElementOrder: 1, restartPolicy: null },
    });
    expect(reply.body.at("spec", "containers")).toMatchObject([{ name: "b" }]);
    expect(reply.body.at("spec", "tolerations")).toEqual([{ key: "u" }]);
  });

  it("obeys $retainKeys and $deleteFromPrimitiveList", async () => {
    const api = await startFake();
    await api.call("POST", PODS, {
      ...POD,
      metadata: { name: "p", finalizers: ["a.dev/x", "a.dev/y"], labels: { a: "1", b: "2" } },
    });
    const patch = {
      metadata: { "$deleteFromPrimitiveList/finalizers": ["a.dev/x"], labels: { $retainKeys: ["b"], c: "3" } },
    };
    const reply = await api.call("PATCH", `${PODS}/p`, patch, STRATEGIC);
    expect(reply.body.at("metadata")).toMatchObject({ finalizers: ["a.dev/y"], labels: { b: "2", c: "3" } });
    expect(reply.body.at("metadata", "labels", "a")).toBeUndefined();
  });

  it("merges conditions of a status by type", async () => {
    const api = await startFake();
    await api.call("POST", PODS, POD);
    const condition = (type: string, status: string): object => ({ status: { conditions: [{ type, status }] } });
    await api.call("PATCH", `${PODS}/p/status`, condition("Ready", "False"), STRATEGIC);
    await api.call("PATCH", `${PODS}/p/status`, condition("Initialized", "True"), STRATEGIC);
    const reply = await api.call("PATCH", `${PODS}/p/status`, condition("Ready", "True"), STRATEGIC);
    expect(reply.body.at("status", "conditions")).toMatchObject([
      { type: "Ready", status: "True" },
      { type: "Initialized", status: "True" },
    ]);
  });
});

describe("server-side apply", () => {
  const apply = (api: FakeClient, manager: string, spec: object, query = ""): Promise<Reply> =>
    api.call("PATCH", `${BLOCKS}/a?fieldManager=${manager}${query}`, block("a", spec), APPLY);
  const server = (): Promise<FakeClient> => startFake({ manifests: [BLOCK_CRD] });

  it("creates, then merges what two managers want", async () => {
    const api = await server();
    expect((await apply(api, "one", { affinity: "x" })).status).toBe(201);
    const reply = await apply(api, "two", { rules: [{ name: "r", value: "1" }] });
    expect(reply.body.at("spec")).toMatchObject({ affinity: "x", rules: [{ name: "r", value: "1" }] });
    expect(reply.body.at("metadata", "managedFields")).toMatchObject([
      { manager: "one", operation: "Apply", fieldsV1: { "f:spec": { "f:affinity": {}, "f:cidr": {} } } },
      {
        manager: "two",
        operation: "Apply",
        fieldsV1: { "f:spec": { "f:rules": { 'k:{"name":"r"}': { "f:value": {} } } } },
      },
    ]);
  });

  it("refuses to change another manager's field, names it, and takes it by force", async () => {
    const api = await server();
    await apply(api, "one", { affinity: "x" });
    const reply = await apply(api, "two", { affinity: "y" });
    expect(reply.body.value).toMatchObject({
      code: 409,
      reason: "Conflict",
      message: 'Apply failed with 1 conflict: conflict with "one": .spec.affinity',
      details: { causes: [{ reason: "FieldManagerConflict", field: ".spec.affinity" }] },
    });
    expect((await apply(api, "two", { affinity: "x" })).status).toBe(200);
    const forced = await apply(api, "two", { affinity: "y" }, "&force=true");
    expect(forced.body.at("spec", "affinity")).toBe("y");
    expect(forced.body.at("metadata", "managedFields", 0, "fieldsV1")).toEqual({ "f:spec": { "f:cidr": {} } });
  });

  it("takes away what its manager no longer wants, unless another owns it too", async () => {
    const api = await server();
    await apply(api, "one", { affinity: "x", state: "on", rules: [{ name: "r" }, { name: "s" }] });
    await apply(api, "two", { state: "on" });
    const reply = await apply(api, "one", { rules: [{ name: "s" }] });
    expect(reply.body.at("spec")).toEqual({ cidr: "10.0.0.0/26", size: 26, state: "on", rules: [{ name: "s" }] });
  });

  it("gives what was there before the first apply to before-first-apply", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a", { affinity: "x" }));
    const reply = await apply(api, "one", { affinity: "y" });
    expect(reply.body.at("message")).toContain(
      'conflict with "before-first-apply" using test.gingham.dev/v1: .spec.affinity',
    );
  });

  it("gives a field to whoever changes it by an update", async () => {
    const api = await server();
    await apply(api, "one", { affinity: "x" });
    await api.call("PATCH", `${BLOCKS}/a?fieldManager=editor`, { spec: { affinity: "y" } }, MERGE);
    const reply = await apply(api, "one", { affinity: "x" });
    expect(reply.body.at("message")).toContain('conflict with "editor" using test.gingham.dev/v1: .spec.affinity');
  });

  it("hands fields over when a client rewrites managedFields, as kubectl does on its first apply --server-side", async () => {
    const api = await server();
    await api.call("POST", `${BLOCKS}?fieldManager=client-side`, block("a", { affinity: "x", state: "on" }));
    const applied = await apply(api, "one", { affinity: "x", state: "on" });
    const [, one] = applied.body.at("metadata", "managedFields") as unknown[];
    const patch = [{ op: "replace", path: "/metadata/managedFields", value: [one] }];
    const handed = await api.call("PATCH", `${BLOCKS}/a?fieldManager=kubectl`, patch, JSON_PATCH);
    expect(handed.body.at("metadata", "managedFields")).toEqual([one]);
    expect((await apply(api, "one", { affinity: "x" })).body.at("spec", "state")).toBeUndefined();
  });

  it("keeps managedFields that an update leaves out, empties or garbles, and forgets them for one empty entry", async () => {
    const api = await server();
    const before = (await apply(api, "one", { affinity: "x" })).body.at("metadata", "managedFields");
    const patched = async (managedFields: unknown): Promise<unknown> =>
      (await api.call("PATCH", `${BLOCKS}/a`, { metadata: { managedFields } }, MERGE)).body.at(
        "metadata",
        "managedFields",
      );
    for (const value of [null, [], [{ manager: 1 }], "x"]) expect(await patched(value)).toEqual(before);
    expect(await patched([{}])).toBeUndefined();
  });

  it("changes nothing, not even the time, when applied again", async () => {
    const api = await server();
    const first = await apply(api, "one", { affinity: "x", sequenceNumber: 1763734567890123457n });
    expect((await apply(api, "one", { affinity: "x", sequenceNumber: 1763734567890123457n })).body.value).toEqual(
      first.body.value,
    );
  });

  it("reads YAML, and wants a field manager", async () => {
    const api = await server();
    const text = "apiVersion: test.gingham.dev/v1\nkind: Block\nmetadata: {name: a}\nspec: {cidr: 10.0.0.0/26}\n";
    expect((await api.call("PATCH", `${BLOCKS}/a?fieldManager=one`, undefined, { ...APPLY, text })).status).toBe(201);
    expect((await api.call("PATCH", `${BLOCKS}/a`, undefined, { ...APPLY, text })).status).toBe(400);
  });

  it("does not keep managers for clients that name none", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a"));
    const reply = await api.call("PATCH", `${BLOCKS}/a`, { spec: { affinity: "y" } }, MERGE);
    expect(reply.body.at("metadata", "managedFields")).toBeUndefined();
  });
});

// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { BLOCK_CRD, BLOCKS, block, type FakeClient, startFake } from "./fake-client.ts";

const server = (): Promise<FakeClient> => startFake({ manifests: [BLOCK_CRD] });
const CONFIG_MAPS = "/api/v1/namespaces/default/configmaps";
const MERGE = { contentType: "application/merge-patch+json" };
const JSON_PATCH = { contentType: "application/json-patch+json" };

function configMap(name: string, more: object = {}): object {
  return { apiVersion: "v1", kind: "ConfigMap", metadata: { name, ...more } };
}

describe("create", () => {
  it("gives uid, resourceVersion, generation and creationTimestamp", async () => {
    const reply = await (await server()).call("POST", BLOCKS, block("a"));
    expect(reply.status).toBe(201);
    expect(reply.body.at("metadata")).toMatchObject({
      name: "a",
      generation: 1,
      creationTimestamp: "2026-01-01T00:00:00Z",
    });
    expect(reply.body.at("metadata", "uid")).toMatch(/^[0-9a-f-]{36}$/);
    expect(reply.body.at("metadata", "resourceVersion")).toMatch(/^\d+$/);
    expect(reply.body.at("metadata", "managedFields")).toBeUndefined();
  });

  it("refuses a name that exists, with AlreadyExists", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a"));
    const reply = await api.call("POST", BLOCKS, block("a"));
    expect(reply.body.value).toMatchObject({
      kind: "Status",
      status: "Failure",
      reason: "AlreadyExists",
      code: 409,
      message: 'blocks.test.gingham.dev "a" already exists',
      details: { name: "a", group: "test.gingham.dev", kind: "blocks" },
    });
  });

  it("takes DNS-1123 subdomains such as IPv6 block names, and refuses others with 422", async () => {
    const api = await server();
    expect((await api.call("POST", BLOCKS, block("fd00-10-244---122"))).status).toBe(201);
    const reply = await api.call("POST", BLOCKS, block("Upper"));
    expect(reply.status).toBe(422);
    expect(reply.body.at("details", "causes", 0)).toMatchObject({
      field: "metadata.name",
      reason: "FieldValueInvalid",
    });
  });

  it("makes a name from generateName", async () => {
    const reply = await (await server()).call("POST", CONFIG_MAPS, { metadata: { generateName: "x-" } });
    expect(reply.body.at("metadata", "name")).toMatch(/^x-[a-z0-9]{5}$/);
  });

  it("refuses a namespace that does not exist", async () => {
    const reply = await (await server()).call("POST", "/api/v1/namespaces/nope/configmaps", configMap("a"));
    expect([reply.status, reply.body.at("message")]).toEqual([404, 'namespaces "nope" not found']);
  });

  it("stores nothing on a dry run", async () => {
    const api = await server();
    expect((await api.call("POST", `${BLOCKS}?dryRun=All`, block("a"))).status).toBe(201);
    expect((await api.call("GET", `${BLOCKS}/a`)).status).toBe(404);
  });

  it("keeps 64-bit integers exact, and nulls inside of arrays", async () => {
    const api = await server();
    const spec = {
      allocations: [0, null, 2, null],
      sequenceNumber: 1763734567890123457n,
      sequences: { "3": 2n ** 63n - 1n },
    };
    await api.call("POST", BLOCKS, block("a", spec));
    expect((await api.call("GET", `${BLOCKS}/a`)).body.at("spec")).toMatchObject(spec);
  });
});

describe("update", () => {
  it("refuses an old resourceVersion in kube-apiserver's words", async () => {
    const api = await server();
    const first = (await api.call("POST", BLOCKS, block("a"))).body.value;
    await api.call("PATCH", `${BLOCKS}/a`, { spec: { affinity: "x" } }, MERGE);
    const reply = await api.call("PUT", `${BLOCKS}/a`, first);
    expect(reply.body.value).toMatchObject({
      code: 409,
      reason: "Conflict",
      message:
        'Operation cannot be fulfilled on blocks.test.gingham.dev "a": the object has been modified; please apply your changes to the latest version and try again',
    });
  });

  it("refuses another uid in the words that clients look for", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a"));
    const other = { ...block("a"), metadata: { name: "a", uid: "other" } };
    const reply = await api.call("PUT", `${BLOCKS}/a`, other);
    expect(reply.status).toBe(409);
    expect(reply.body.at("message")).toContain("Precondition failed: UID in precondition: other, UID in object meta:");
  });

  it("wants a resourceVersion for custom resources and not for config maps", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a"));
    await api.call("POST", CONFIG_MAPS, configMap("a"));
    const reply = await api.call("PUT", `${BLOCKS}/a`, block("a"));
    expect([reply.status, reply.body.at("details", "causes", 0, "field")]).toEqual([422, "metadata.resourceVersion"]);
    expect((await api.call("PUT", `${CONFIG_MAPS}/a`, configMap("a"))).status).toBe(200);
  });

  it("counts the generation when the spec changes, and only then", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a"));
    const labelled = await api.call("PATCH", `${BLOCKS}/a`, { metadata: { labels: { x: "y" } } }, MERGE);
    expect(labelled.body.at("metadata", "generation")).toBe(1);
    const changed = await api.call("PATCH", `${BLOCKS}/a`, { spec: { affinity: "x" } }, MERGE);
    expect(changed.body.at("metadata", "generation")).toBe(2);
  });

  it("writes nothing when nothing changes", async () => {
    const api = await server();
    const first = await api.call("POST", BLOCKS, block("a"));
    const again = await api.call("PUT", `${BLOCKS}/a`, first.body.value);
    expect(again.body.value).toEqual(first.body.value);
  });

  it("keeps status and spec apart", async () => {
    const api = await server();
    const created = await api.call("POST", BLOCKS, { ...block("a"), status: { used: 9 } });
    expect(created.body.at("status")).toBeUndefined();
    const metadata = created.body.at("metadata");
    const status = await api.call("PUT", `${BLOCKS}/a/status`, {
      ...block("a", { affinity: "z" }),
      metadata,
      status: { used: 3 },
    });
    expect(status.body.value).toMatchObject({
      spec: { cidr: "10.0.0.0/26" },
      status: { used: 3 },
      metadata: { generation: 1 },
    });
    expect(status.body.at("spec", "affinity")).toBeUndefined();
    const spec = await api.call("PUT", `${BLOCKS}/a`, {
      ...block("a", { affinity: "z" }),
      metadata: status.body.at("metadata"),
    });
    expect(spec.body.value).toMatchObject({ spec: { affinity: "z" }, status: { used: 3 } });
  });

  it("refuses a name that is not the URL's, and another kind", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a"));
    expect((await api.call("PUT", `${BLOCKS}/a`, block("b"))).status).toBe(400);
    expect((await api.call("PUT", `${BLOCKS}/a`, { ...block("a"), kind: "Other" })).status).toBe(400);
    expect((await api.call("PUT", `${BLOCKS}/a`, undefined, { text: "{ bad" })).status).toBe(400);
  });
});

describe("patch", () => {
  it("keeps 64-bit integers that it does not touch, and sets those that it does", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a", { sequenceNumber: 1763734567890123457n, allocations: [null, 1] }));
    const merged = await api.call("PATCH", `${BLOCKS}/a`, { spec: { sequences: { "1": 9007199254740993n } } }, MERGE);
    expect(merged.body.at("spec")).toMatchObject({
      sequenceNumber: 1763734567890123457n,
      sequences: { "1": 9007199254740993n },
      allocations: [null, 1],
    });
    const operations = [
      { op: "test", path: "/spec/sequenceNumber", value: 1763734567890123457n },
      { op: "replace", path: "/spec/sequenceNumber", value: 1763734567890123458n },
      { op: "replace", path: "/spec/allocations/1", value: null },
    ];
    const patched = await api.call("PATCH", `${BLOCKS}/a`, operations, JSON_PATCH);
    expect(patched.body.at("spec")).toMatchObject({ sequenceNumber: 1763734567890123458n, allocations: [null, null] });
  });

  it("refuses a failed test with 422 and an old resourceVersion with 409", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a"));
    const test = [{ op: "test", path: "/spec/cidr", value: "other" }];
    expect((await api.call("PATCH", `${BLOCKS}/a`, test, JSON_PATCH)).status).toBe(422);
    expect((await api.call("PATCH", `${BLOCKS}/a`, { metadata: { resourceVersion: "1" } }, MERGE)).status).toBe(409);
  });

  it("has no strategic merge for custom resources", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a"));
    const reply = await api.call("PATCH", `${BLOCKS}/a`, {}, { contentType: "application/strategic-merge-patch+json" });
    expect(reply.body.value).toMatchObject({ code: 415, reason: "UnsupportedMediaType" });
  });
});

describe("delete", () => {
  it("answers the object's uid, and 404 the second time", async () => {
    const api = await server();
    const uid = (await api.call("POST", BLOCKS, block("a"))).body.at("metadata", "uid");
    const reply = await api.call("DELETE", `${BLOCKS}/a`);
    expect(reply.body.value).toMatchObject({
      kind: "Status",
      status: "Success",
      details: { name: "a", uid, kind: "blocks" },
    });
    expect((await api.call("DELETE", `${BLOCKS}/a`)).status).toBe(404);
  });

  it("refuses failing preconditions with 409", async () => {
    const api = await server();
    await api.call("POST", BLOCKS, block("a"));
    const uid = await api.call("DELETE", `${BLOCKS}/a`, { preconditions: { uid: "other" } });
    expect([uid.status, uid.body.at("reason")]).toEqual([409, "Conflict"]);
    expect(uid.body.at("message")).toContain("UID in precondition");
    expect((await api.call("DELETE", `${BLOCKS}/a`, { preconditions: { resourceVersion: "1" } })).status).toBe(409);
    expect((await api.call("GET", `${BLOCKS}/a`)).status).toBe(200);
  });

  it("waits for finalizers", async () => {
    const api = await server();
    const held = { ...block("a"), metadata: { name: "a", finalizers: ["test.gingham.dev/hold"] } };
    await api.call("POST", BLOCKS, held);
    const reply = await api.call("DELETE", `${BLOCKS}/a`);
    expect(reply.body.at("metadata", "deletionTimestamp")).toBe("2026-01-01T00:00:00Z");
    const more = { metadata: { finalizers: ["test.gingham.dev/hold", "test.gingham.dev/more"] } };
    expect((await api.call("PATCH", `${BLOCKS}/a`, more, MERGE)).status).toBe(422);
    await api.call("PATCH", `${BLOCKS}/a`, { metadata: { finalizers: null } }, MERGE);
    expect((await api.call("GET", `${BLOCKS}/a`)).status).toBe(404);
  });

  it("takes what a selector picks of a collection", async () => {
    const api = await server();
    for (const name of ["a", "b", "c"]) {
      await api.call("POST", CONFIG_MAPS, configMap(name, { labels: { keep: name === "b" ? "yes" : "no" } }));
    }
    await api.call("DELETE", `${CONFIG_MAPS}?labelSelector=keep!%3Dyes`);
    const left = await api.call("GET", CONFIG_MAPS);
    expect(left.body.at("items")).toHaveLength(1);
    expect(left.body.at("items", 0, "metadata", "name")).toBe("b");
  });

  it("takes a namespace with its objects, and waits for those that are held", async () => {
    const api = await server();
    await api.call("POST", "/api/v1/namespaces", { metadata: { name: "n" } });
    await api.call("POST", "/api/v1/namespaces/n/configmaps", configMap("plain"));
    await api.call("POST", "/api/v1/namespaces/n/configmaps", configMap("held", { finalizers: ["x.dev/y"] }));
    const reply = await api.call("DELETE", "/api/v1/namespaces/n");
    expect(reply.body.at("status", "phase")).toBe("Terminating");
    expect((await api.call("GET", "/api/v1/namespaces/n/configmaps/plain")).status).toBe(404);
    expect((await api.call("POST", "/api/v1/namespaces/n/configmaps", configMap("late"))).status).toBe(403);
    await api.call("PATCH", "/api/v1/namespaces/n/configmaps/held", { metadata: { finalizers: [] } }, MERGE);
    expect((await api.call("GET", "/api/v1/namespaces/n")).status).toBe(404);
  });
});

describe("custom resource definitions", () => {
  it("are served at once, and gone at once with their objects", async () => {
    const api = await startFake();
    const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    expect((await api.call("GET", BLOCKS)).body.value).toMatchObject({ code: 404, reason: "NotFound" });
    const created = await api.call("POST", path, BLOCK_CRD);
    expect(created.body.at("status", "conditions")).toMatchObject([
      { type: "NamesAccepted", status: "True" },
      { type: "Established", status: "True" },
    ]);
    await api.call("POST", BLOCKS, block("a"));
    await api.call("DELETE", `${path}/blocks.test.gingham.dev`);
    expect((await api.call("GET", BLOCKS)).status).toBe(404);
    await api.call("POST", path, BLOCK_CRD);
    expect((await api.call("GET", BLOCKS)).body.at("items")).toEqual([]);
  });

  it("default, prune and validate their objects", async () => {
    const api = await server();
    const pruned = await api.call(
      "POST",
      BLOCKS,
      block("a", { unknown: 1, free: { any: { thing: 1 } }, port: "http" }),
    );
    expect(pruned.body.at("spec")).toEqual({
      cidr: "10.0.0.0/26",
      size: 26,
      free: { any: { thing: 1 } },
      port: "http",
    });
    expect(pruned.warnings).toEqual(['unknown field "spec.unknown"']);
    const strict = await api.call("POST", `${BLOCKS}?fieldValidation=Strict`, block("b", { unknown: 1 }));
    expect(strict.status).toBe(400);
    expect(strict.body.at("message")).toContain('strict decoding error: unknown field "spec.unknown"');
    const bad = await api.call("POST", BLOCKS, block("b", { cidr: undefined, size: "26", state: "maybe" }));
    expect(bad.status).toBe(422);
    expect(bad.body.at("details", "causes")).toEqual([
      {
        reason: "FieldValueTypeInvalid",
        field: "spec.size",
        message: 'Invalid value: "string": spec.size in body must be of type integer: "string"',
      },
      {
        reason: "FieldValueNotSupported",
        field: "spec.state",
        message: 'Unsupported value: "maybe": supported values: "on", "off"',
      },
      { reason: "FieldValueRequired", field: "spec.cidr", message: "Required value" },
    ]);
  });

  it("are refused when they cannot be served", async () => {
    const api = await startFake();
    const bad = { ...BLOCK_CRD, metadata: { name: "other.test.gingham.dev" } };
    const reply = await api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", bad);
    expect(reply.body.at("details", "causes", 0, "field")).toBe("metadata.name");
  });
});

describe("requests that lead nowhere", () => {
  it.each([
    ["GET", "/apis/nope.dev/v1/things", 404],
    ["GET", "/api/v1/nope", 404],
    ["GET", "/nope", 404],
    ["POST", `${BLOCKS}/a`, 405],
    ["PUT", BLOCKS, 405],
    ["POST", "/api/v1/pods", 405],
    ["GET", `${BLOCKS}/a/scale`, 404],
    ["GET", `${BLOCKS}?limit=x`, 400],
    ["GET", `${BLOCKS}?labelSelector=a%20b`, 400],
    ["GET", `${BLOCKS}?fieldSelector=spec.cidr%3Dx`, 400],
    ["POST", `${BLOCKS}?dryRun=Some`, 400],
    ["POST", `${BLOCKS}?fieldValidation=Some`, 400],
  ])("%s %s answers a Status with %i", async (method, url, status) => {
    const reply = await (await server()).call(method, url, method === "GET" ? undefined : block("a"));
    expect(reply.body.value).toMatchObject({ kind: "Status", status: "Failure", code: status });
  });

  it("names `kubectl create -f`, and Go's setting, to a client that sends protobuf", async () => {
    const reply = await (await server()).call("POST", CONFIG_MAPS, undefined, {
      contentType: "application/vnd.kubernetes.protobuf",
      text: "k8s",
    });
    expect(reply.status).toBe(415);
    expect(reply.body.at("message")).toContain("kubectl create -f");
    expect(reply.body.at("message")).toContain("rest.Config");
  });
});

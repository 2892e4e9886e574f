// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { authorize } from "./auth.ts";
import { BLOCK_CRD, BLOCKS, block, type FakeClient, NODE_A, startFake } from "./fake-client.ts";
import type { Verb } from "./request.ts";

const TABLE = { accept: "application/json;as=Table;v=v1;g=meta.k8s.io,application/json" };
const MERGE = { contentType: "application/merge-patch+json" };

async function withBlocks(...names: readonly string[]): Promise<FakeClient> {
  const api = await startFake({ manifests: [BLOCK_CRD] });
  for (const name of names) await api.call("POST", BLOCKS, block(name, { affinity: `host:${name}` }));
  return api;
}

describe("list", () => {
  it("goes on where it was, with the state of its first page", async () => {
    const api = await withBlocks("a", "b", "c");
    const first = await api.call("GET", `${BLOCKS}?limit=2`);
    expect(first.body.at("metadata", "remainingItemCount")).toBe(1);
    await api.call("DELETE", `${BLOCKS}/c`);
    const second = await api.call("GET", `${BLOCKS}?limit=2&continue=${String(first.body.at("metadata", "continue"))}`);
    expect(second.body.at("items", 0, "metadata", "name")).toBe("c");
    expect(second.body.at("metadata", "resourceVersion")).toBe(first.body.at("metadata", "resourceVersion"));
    expect(second.body.at("metadata", "continue")).toBeUndefined();
    const expired = await api.call("GET", `${BLOCKS}?limit=2&continue=unknown`);
    expect(expired.body.value).toMatchObject({ code: 410, reason: "Expired" });
  });

  it("selects by name and by the fields that the definition names", async () => {
    const api = await withBlocks("a", "b");
    const names = async (selector: string): Promise<unknown> =>
      (await api.call("GET", `${BLOCKS}?fieldSelector=${encodeURIComponent(selector)}`)).body.at("items");
    expect(await names("metadata.name=b")).toHaveLength(1);
    expect(await names("spec.affinity=host:a")).toHaveLength(1);
    expect(await names("metadata.name!=b,spec.affinity!=host:a")).toHaveLength(0);
  });

  it("tells a version from the future from one that is too old", async () => {
    const api = await withBlocks("a");
    const future = await api.call("GET", `${BLOCKS}?resourceVersion=999999&resourceVersionMatch=NotOlderThan`);
    expect(future.body.value).toMatchObject({
      code: 504,
      details: { causes: [{ reason: "ResourceVersionTooLarge" }] },
    });
    const old = await api.call("GET", `${BLOCKS}?resourceVersion=1&resourceVersionMatch=Exact`);
    expect(old.body.value).toMatchObject({ code: 410, reason: "Expired" });
  });

  it("lists a namespaced kind in one namespace and in all", async () => {
    const api = await startFake();
    for (const namespace of ["default", "kube-system"]) {
      await api.call("POST", `/api/v1/namespaces/${namespace}/configmaps`, { metadata: { name: "a" } });
    }
    expect((await api.call("GET", "/api/v1/configmaps")).body.at("items")).toHaveLength(2);
    expect((await api.call("GET", "/api/v1/namespaces/default/configmaps")).body.at("items")).toHaveLength(1);
  });
});

describe("tables", () => {
  it("have the columns of the definition, and the metadata of each object", async () => {
    const api = await withBlocks("a");
    const table = (await api.call("GET", BLOCKS, undefined, TABLE)).body;
    expect(table.at("columnDefinitions")).toMatchObject([
      { name: "Name", type: "string", format: "name", priority: 0 },
      { name: "CIDR", type: "string" },
      { name: "Used", type: "integer" },
      { name: "Affinity", priority: 1 },
      { name: "Age", type: "string" },
    ]);
    expect(table.at("rows", 0, "cells")).toEqual(["a", "10.0.0.0/26", null, "host:a", "0s"]);
    expect(table.at("rows", 0, "object")).toMatchObject({ kind: "PartialObjectMetadata", metadata: { name: "a" } });
  });

  it("show pods and nodes as kubectl does", async () => {
    const api = await startFake();
    const pod = {
      metadata: { name: "p" },
      spec: { nodeName: "n", containers: [{ name: "c", image: "i" }] },
      status: { phase: "Running", podIP: "10.0.0.1", containerStatuses: [{ name: "c", ready: true, restartCount: 2 }] },
    };
    await api.call("POST", "/api/v1/namespaces/default/pods", pod);
    const pods = await api.call("GET", "/api/v1/pods", undefined, TABLE);
    expect(pods.body.at("rows", 0, "cells")).toEqual([
      "p",
      "1/1",
      "Running",
      2,
      "0s",
      "10.0.0.1",
      "n",
      "<none>",
      "<none>",
    ]);
    const status = {
      conditions: [{ type: "Ready", status: "True" }],
      addresses: [{ type: "InternalIP", address: "10.1.0.1" }],
    };
    await api.call("POST", "/api/v1/nodes", {
      metadata: { name: "n", labels: { "node-role.kubernetes.io/worker": "" } },
      status,
    });
    const nodes = await api.call("GET", "/api/v1/nodes/n", undefined, TABLE);
    expect(nodes.body.at("rows", 0, "cells")).toEqual([
      ...["n", "Ready", "worker", "0s", "", "10.1.0.1", "<none>", "<unknown>", "<unknown>", "<unknown>"],
    ]);
  });
});

describe("watch", () => {
  it("tells what is there, then every change, with exact integers", async () => {
    const api = await withBlocks("a");
    const { lines, types } = await api.watch(`${BLOCKS}?watch=true`);
    await api.call("PATCH", `${BLOCKS}/a`, { spec: { sequenceNumber: 1763734567890123457n } }, MERGE);
    await api.call("DELETE", `${BLOCKS}/a`);
    expect(types()).toBe("ADDED MODIFIED DELETED");
    expect(lines[1]?.at("object", "spec", "sequenceNumber")).toBe(1763734567890123457n);
    const versions = lines.map((l) => Number(l.at("object", "metadata", "resourceVersion")));
    expect(versions).toEqual([...versions].sort((x, y) => x - y));
    expect(new Set(versions).size).toBe(3);
  });

  it("goes on from a resourceVersion without a gap or a repetition", async () => {
    const api = await withBlocks("a");
    const version = String((await api.call("GET", BLOCKS)).body.at("metadata", "resourceVersion"));
    await api.call("POST", BLOCKS, block("b"));
    const { types, lines } = await api.watch(`${BLOCKS}?watch=1&resourceVersion=${version}`);
    await api.call("POST", BLOCKS, block("c"));
    expect(types()).toBe("ADDED ADDED");
    expect(lines.map((l) => l.at("object", "metadata", "name"))).toEqual(["b", "c"]);
  });

  it("answers 410 as an event for a version that is compacted or from another life", async () => {
    const api = await withBlocks("a", "b");
    const version = String((await api.call("GET", `${BLOCKS}/a`)).body.at("metadata", "resourceVersion"));
    api.store.log.compact(0);
    for (const from of [version, "99999999"]) {
      const { lines, isEnded } = await api.watch(`${BLOCKS}?watch=true&resourceVersion=${from}`);
      expect(lines[0]?.value).toMatchObject({
        type: "ERROR",
        object: { kind: "Status", code: 410, reason: "Expired" },
      });
      expect(isEnded()).toBe(true);
    }
  });

  it("turns entering and leaving a selector into ADDED and DELETED", async () => {
    const api = await withBlocks("a");
    const { types, lines } = await api.watch(`${BLOCKS}?watch=true&labelSelector=on`);
    await api.call("PATCH", `${BLOCKS}/a`, { metadata: { labels: { on: "1" } } }, MERGE);
    await api.call("PATCH", `${BLOCKS}/a`, { metadata: { labels: { on: "2" } } }, MERGE);
    const left = await api.call("PATCH", `${BLOCKS}/a`, { metadata: { labels: null } }, MERGE);
    await api.call("DELETE", `${BLOCKS}/a`);
    expect(types()).toBe("ADDED MODIFIED DELETED");
    expect(lines[2]?.at("object", "metadata")).toMatchObject({
      labels: { on: "2" },
      resourceVersion: left.body.at("metadata", "resourceVersion"),
    });
  });

  it("ends the initial events with a marked bookmark, and sends bookmarks to those who allow them", async () => {
    const api = await withBlocks("a", "b");
    const query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    const { types, lines, watch } = await api.watch(`${BLOCKS}?${query}`);
    expect(types()).toBe("ADDED ADDED BOOKMARK");
    expect(lines[2]?.at("object", "metadata", "annotations")).toEqual({ "k8s.io/initial-events-end": "true" });
    watch.bookmark();
    expect(types()).toBe("ADDED ADDED BOOKMARK BOOKMARK");
    expect((await api.call("GET", `${BLOCKS}?watch=true&sendInitialEvents=true`)).status).toBe(422);
  });

  it("tells the columns of a table once", async () => {
    const api = await withBlocks("a", "b");
    const { lines } = await api.watch(`${BLOCKS}?watch=true`, TABLE);
    expect(lines.map((l) => Array(l.at("object", "columnDefinitions")).flat().length)).toEqual([5, 0]);
  });

  it("watches one object by name, in its namespace only", async () => {
    const api = await startFake();
    const { types } = await api.watch(
      "/api/v1/namespaces/default/configmaps?watch=true&fieldSelector=metadata.name%3Da",
    );
    for (const [namespace, name] of [
      ["default", "a"],
      ["default", "b"],
      ["kube-system", "a"],
    ]) {
      await api.call("POST", `/api/v1/namespaces/${namespace}/configmaps`, { metadata: { name } });
    }
    expect(types()).toBe("ADDED");
  });
});

describe("roles", () => {
  const as = { token: NODE_A.token };

  it("answers 401 without a known token, and health and version to anybody", async () => {
    const api = await startFake();
    expect((await api.call("GET", "/api/v1/pods", undefined, { token: "wrong" })).body.value).toMatchObject({
      code: 401,
      reason: "Unauthorized",
      message: "Unauthorized",
    });
    expect((await api.call("GET", "/readyz", undefined, { token: "wrong" })).status).toBe(200);
    expect((await api.call("GET", "/version", undefined, { token: "wrong" })).status).toBe(200);
  });

  it("lets a node read, and says in Kubernetes' words what it may not do", async () => {
    const api = await startFake();
    expect((await api.call("GET", "/api/v1/pods", undefined, as)).status).toBe(200);
    const reply = await api.call("GET", "/api/v1/namespaces/default/secrets/x", undefined, as);
    expect(reply.body.value).toMatchObject({
      code: 403,
      reason: "Forbidden",
      message:
        'secrets "x" is forbidden: User "system:node:node-a" cannot get resource "secrets" in API group "" in the namespace "default"',
    });
    expect((await api.call("GET", "/api/v1/secrets", undefined, as)).body.at("message")).toContain(
      "at the cluster scope",
    );
  });

  it("lets a node see what the installed definitions keep, and change none", async () => {
    const api = await startFake();
    const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    expect((await api.call("GET", path, undefined, as)).status).toBe(200);
    expect((await api.call("POST", path, { metadata: { name: "x.y" } }, as)).status).toBe(403);
  });

  it("lets a node write its own Node and Lease and no other", async () => {
    const api = await startFake();
    const create = (name: string): Promise<number> =>
      api.call("POST", "/api/v1/nodes", { metadata: { name } }, as).then((r) => r.status);
    expect([await create("node-a"), await create("node-b")]).toEqual([201, 403]);
    await api.call("POST", "/api/v1/nodes", { metadata: { name: "node-b" } });
    const patch = (name: string): Promise<number> =>
      api
        .call("PATCH", `/api/v1/nodes/${name}/status`, { status: { phase: "x" } }, { ...as, ...MERGE })
        .then((r) => r.status);
    expect([await patch("node-a"), await patch("node-b")]).toEqual([200, 403]);
    const lease = (namespace: string, name: string): Promise<number> =>
      api
        .call("POST", `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`, { metadata: { name } }, as)
        .then((r) => r.status);
    expect([await lease("kube-node-lease", "node-a"), await lease("kube-node-lease", "b")]).toEqual([201, 403]);
    expect(await lease("default", "node-a")).toBe(403);
  });

  it("lets a node do nothing else: no settings, no rights, no whole collection", async () => {
    const api = await startFake({ manifests: [] });
    const refused: (readonly [string, string, object?])[] = [
      ["DELETE", "/api/v1/nodes/node-a"],
      ["DELETE", "/api/v1/nodes"],
      ["POST", "/api/v1/secrets", { metadata: { name: "x" } }],
      ["POST", "/api/v1/namespaces/default/events", { metadata: { name: "x" } }],
      ["GET", "/api/v1/namespaces/default/configmaps"],
      ["POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", { metadata: { name: "x" } }],
      ["POST", "/api/v1/namespaces", { metadata: { name: "x" } }],
    ];
    for (const [method, path, body] of refused)
      expect([method, path, (await api.call(method, path, body, as)).status]).toEqual([method, path, 403]);
    const may = (verb: Verb, plural: string): boolean => {
      const group = "crd.projectcalico.org";
      try {
        authorize(
          NODE_A,
          verb,
          { group, version: "v1", plural, name: "x", namespace: "", subresource: "", isWatchPath: false },
          { group, plural, kind: "" },
        );
        return true;
      } catch {
        return false;
      }
    };
    expect(may("delete", "ipamblocks")).toBe(true);
    expect(may("deletecollection", "ipamblocks")).toBe(false);
    for (const kind of ["ippools", "ipamconfigs", "clusterinformations", "felixconfigurations", "ipreservations"])
      expect((["create", "update", "patch", "delete"] as const).map((verb) => may(verb, kind))).not.toContain(true);
  });

  it("lets a node write the status of its own pods only", async () => {
    const api = await startFake();
    for (const nodeName of ["node-a", "node-b"]) {
      const spec = { nodeName, containers: [{ name: "c" }] };
      await api.call("POST", "/api/v1/namespaces/default/pods", { metadata: { name: `on-${nodeName}` }, spec });
    }
    const patch = (path: string): Promise<number> =>
      api
        .call(
          "PATCH",
          `/api/v1/namespaces/default/pods/${path}`,
          { status: { podIP: "10.0.0.1" } },
          { ...as, ...MERGE },
        )
        .then((r) => r.status);
    expect(await patch("on-node-a/status")).toBe(200);
    expect(await patch("on-node-b/status")).toBe(403);
    expect(await patch("on-node-a")).toBe(403);
  });
});

describe("discovery", () => {
  it("lists a new definition everywhere", async () => {
    const api = await withBlocks();
    const list = await api.call("GET", "/apis/test.gingham.dev/v1");
    expect(list.body.at("resources", 0)).toMatchObject({ name: "blocks", kind: "Block", shortNames: ["blk"] });
    expect(list.body.at("resources", 1, "name")).toBe("blocks/status");
    const accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    const all = await api.call("GET", "/apis", undefined, { accept });
    expect(all.body.at("kind")).toBe("APIGroupDiscoveryList");
    expect(all.text).toContain('"resource":"blocks"');
    expect((await api.call("GET", "/apis")).text).toContain("test.gingham.dev");
    const document = await api.call("GET", "/openapi/v3/apis/test.gingham.dev/v1");
    const patch = document.body.at("paths", "/apis/test.gingham.dev/v1/blocks/{name}", "patch");
    expect(patch).toMatchObject({ "x-kubernetes-group-version-kind": { kind: "Block" } });
    expect(JSON.stringify(patch)).toContain('"fieldValidation"');
    expect((await api.call("GET", "/openapi/v2")).body.at("swagger")).toBe("2.0");
  });
});

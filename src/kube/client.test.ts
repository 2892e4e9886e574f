// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { NODES, PODS } from "../crds/core.ts";
import { IPAM_BLOCKS } from "../crds/ipam-block.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import type { WatchEvent } from "./api.ts";
import { HTTPKubeClient } from "./client.ts";
import {
  AlreadyExistsError,
  ConflictError,
  ForbiddenError,
  GoneError,
  InvalidError,
  type KubeError,
  NotFoundError,
  RequestError,
  ServerError,
  TooManyRequestsError,
  UnreachableError,
} from "./errors.ts";
import { chunks, cut, FakeServer, json, type Reply, silence, status } from "./fake-server.ts";

const NODE = { apiVersion: "v1", kind: "Node", metadata: { name: "a", resourceVersion: "7" } };

async function start(...script: Reply[]): Promise<{ server: FakeServer; client: HTTPKubeClient } & AsyncDisposable> {
  const server = await FakeServer.start(...script);
  const client = new HTTPKubeClient({ credentials: server.credentials("t1", "t2", "t3") });
  const dispose = async (): Promise<void> => {
    client.close();
    await server[Symbol.asyncDispose]();
  };
  return { server, client, [Symbol.asyncDispose]: dispose };
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("The call succeeded");
}

describe("requests", () => {
  test("each call has the method, path, query and content type of the protocol", async () => {
    await using fake = await start(json(NODE));
    const { client, server } = fake;
    const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "p", namespace: "ns" } };
    await client.get(NODES, "a");
    await client.create(PODS, pod);
    await client.update(NODES, NODE, { subresource: "status" });
    await client.patch(NODES, "a", { type: "apply", body: {}, fieldManager: "me", force: true });
    await client.delete(PODS, "p", { namespace: "ns", preconditions: { uid: "u" } });
    server.script(json({ items: [], metadata: { resourceVersion: "5" } }));
    await client.list(PODS, { namespace: "ns", labelSelector: "a=b,c", fieldSelector: "spec.nodeName=n", limit: 2 });
    await client.list(IPAM_BLOCKS);
    expect(server.requests.map(({ method, url, headers }) => [method, url, headers["content-type"] ?? ""])).toEqual([
      ["GET", "/api/v1/nodes/a", ""],
      ["POST", "/api/v1/namespaces/ns/pods", "application/json"],
      ["PUT", "/api/v1/nodes/a/status", "application/json"],
      ["PATCH", "/api/v1/nodes/a?fieldManager=me&force=true", "application/apply-patch+yaml"],
      ["DELETE", "/api/v1/namespaces/ns/pods/p", "application/json"],
      ["GET", "/api/v1/namespaces/ns/pods?labelSelector=a%3Db%2Cc&fieldSelector=spec.nodeName%3Dn&limit=2", ""],
      ["GET", "/apis/crd.projectcalico.org/v1/ipamblocks", ""],
    ]);
    expect(server.requests[4]?.body).toBe('{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"u"}}');
    expect(server.requests[0]?.headers).toMatchObject({ accept: "application/json", authorization: "Bearer t1" });
  });

  test("calls one after the other share one connection", async () => {
    await using fake = await start(json(NODE));
    for (let i = 0; i < 5; i++) await fake.client.update(NODES, NODE);
    expect(fake.server.connections).toBe(1);
  });

  test("an object of a namespaced kind without a namespace is refused before anything is sent", async () => {
    await using fake = await start(json({}));
    expect(await failure(fake.client.delete(PODS, "p"))).toBeInstanceOf(RequestError);
    expect(await failure(fake.client.get(NODES, ""))).toBeInstanceOf(RequestError);
    expect(fake.server.requests).toEqual([]);
  });

  test("list() follows continue and gives items their type", async () => {
    const page = (name: string, next?: string): Reply =>
      json({ items: [{ metadata: { name } }], metadata: { resourceVersion: "9", continue: next } });
    await using fake = await start(page("a", "token"), page("b"));
    expect(await fake.client.list(NODES, { limit: 1, resourceVersion: "0" })).toEqual({
      items: [
        { apiVersion: "v1", kind: "Node", metadata: { name: "a" } },
        { apiVersion: "v1", kind: "Node", metadata: { name: "b" } },
      ],
      invalid: [],
      resourceVersion: "9",
    });
    expect(fake.server.requests.map(({ url }) => url)).toEqual([
      "/api/v1/nodes?limit=1&resourceVersion=0",
      "/api/v1/nodes?limit=1&continue=token",
    ]);
  });

  test("list() starts again once when the pages' moment is forgotten", async () => {
    const first = json({ items: [{ metadata: { name: "a" } }], metadata: { resourceVersion: "9", continue: "t" } });
    const all = json({ items: [], metadata: { resourceVersion: "11" } });
    await using fake = await start(first, status(410, "Expired"), all);
    expect((await fake.client.list(NODES, { limit: 1 })).resourceVersion).toBe("11");
  });
});

describe("errors", () => {
  test.each([
    [400, "BadRequest", RequestError],
    [401, "Unauthorized", ForbiddenError],
    [403, "Forbidden", ForbiddenError],
    [404, "NotFound", NotFoundError],
    [405, "MethodNotAllowed", RequestError],
    [409, "Conflict", ConflictError],
    [409, "AlreadyExists", AlreadyExistsError],
    [410, "Expired", GoneError],
    [415, "UnsupportedMediaType", RequestError],
    [422, "Invalid", InvalidError],
    [429, "TooManyRequests", TooManyRequestsError],
    [500, "InternalError", ServerError],
    [503, "ServiceUnavailable", ServerError],
  ])("%i %s has its class, and says what it is about", async (code, reason, type) => {
    const causes = [{ reason: "FieldValueInvalid", message: "bad", field: "metadata.uid" }];
    await using fake = await start(status(code, reason, { details: { causes } }));
    const error = await failure(fake.client.update(NODES, NODE));
    expect(error).toBeInstanceOf(type);
    expect(error).toMatchObject({ status: code, reason, causes, resource: "nodes", objectName: "a", verb: "update" });
    expect((error as KubeError).message).toContain(`Cannot update nodes a: ${code}, scripted ${reason}; `);
  });

  test("an error page of a proxy keeps its HTTP status", async () => {
    await using fake = await start((response) => void response.writeHead(502).end("<html>Bad Gateway</html>"));
    expect(await failure(fake.client.get(NODES, "a"))).toMatchObject({ code: "KubeServerError", status: 502 });
  });

  test("an answer that is not JSON, or only a part, is UnreachableError", async () => {
    const half: Reply = (response) => {
      response.writeHead(200, { "content-length": "100" });
      response.write('{"metadata"', () => response.socket?.destroy());
    };
    for (const reply of [half, (response) => void response.end("gingham")] satisfies Reply[]) {
      await using fake = await start(reply);
      expect(await failure(fake.client.update(NODES, NODE))).toBeInstanceOf(UnreachableError);
    }
  });

  test("no server is UnreachableError with the cause", async () => {
    const server = await FakeServer.start(silence);
    const client = new HTTPKubeClient({ credentials: server.credentials() });
    await server[Symbol.asyncDispose]();
    const error = await failure(client.get(NODES, "a"));
    expect(error).toBeInstanceOf(UnreachableError);
    expect(error).toMatchObject({ message: expect.stringContaining("ECONNREFUSED") as string });
  });

  test("a server that is silent is UnreachableError when the time is over", async () => {
    await using fake = await start(silence);
    const error = await failure(fake.client.update(NODES, NODE, { timeoutMs: 20 }));
    expect(error).toBeInstanceOf(UnreachableError);
    expect(error).toMatchObject({ message: expect.stringContaining("no answer within 20 ms") as string });
  });

  test("a signal ends a call under way with its reason", async () => {
    const abort = new AbortController();
    const reason = new Error("hung up");
    await using fake = await start(() => abort.abort(reason));
    expect(await failure(fake.client.update(NODES, NODE, { signal: abort.signal }))).toBe(reason);
    expect(await failure(fake.client.update(NODES, NODE, { signal: abort.signal }))).toBe(reason);
    expect(fake.server.requests).toHaveLength(1);
  });
});

describe("awaySinceMs()", () => {
  test("tells since when nothing has had an answer, and asks once more before it does", async () => {
    const clock = new FakeClock();
    await using server = await FakeServer.start(cut);
    const client = new HTTPKubeClient({ credentials: server.credentials(), clock });
    expect(await client.awaySinceMs()).toBeUndefined();
    const startMs = clock.nowMs();
    await failure(client.get(NODES, "a"));
    await clock.advance(5_000);
    await failure(client.update(NODES, NODE));
    expect(await client.awaySinceMs()).toBe(startMs);
    expect(server.requests.at(-1)?.url).toBe("/version");
    const asked = server.requests.length;
    server.script(json({ major: "1" }));
    expect(await client.awaySinceMs()).toBeUndefined();
    expect(server.requests).toHaveLength(asked + 1);
    expect(await client.awaySinceMs()).toBeUndefined();
    expect(server.requests).toHaveLength(asked + 1);
    client.close();
  });

  test.each([
    [500, true],
    [503, true],
    [403, false],
    [404, false],
    [409, false],
  ])("takes the answer %i for none: %s", async (code, isAway) => {
    await using fake = await start(status(code, "Reason"));
    await failure(fake.client.get(NODES, "a"));
    expect((await fake.client.awaySinceMs()) !== undefined).toBe(isAway);
  });

  test("knows it of a watch that breaks, and of one that begins", async () => {
    await using fake = await start(cut);
    await failure(Array.fromAsync(fake.client.watch(NODES, { resourceVersion: "1" })));
    expect(await fake.client.awaySinceMs()).toBeDefined();
    fake.server.script(chunks([], "end"));
    await Array.fromAsync(fake.client.watch(NODES, { resourceVersion: "1" }));
    fake.server.script(cut);
    expect(await fake.client.awaySinceMs()).toBeUndefined();
  });
});

describe("retries", () => {
  test("401 reads the credentials again, once", async () => {
    await using fake = await start(status(401, "Unauthorized"), json(NODE));
    await fake.client.get(NODES, "a");
    expect(fake.server.requests.map(({ headers }) => headers.authorization)).toEqual(["Bearer t1", "Bearer t2"]);
    fake.server.script(status(401, "Unauthorized"));
    expect(await failure(fake.client.get(NODES, "a"))).toBeInstanceOf(ForbiddenError);
    expect(fake.server.requests).toHaveLength(4);
  });

  test.each([429, 503])("%i is tried again once, after the time it names", async (code) => {
    const clock = new FakeClock();
    await using server = await FakeServer.start(status(code, "Busy", {}, { "retry-after": "3" }), json(NODE));
    const client = new HTTPKubeClient({ credentials: server.credentials(), clock });
    const call = client.update(NODES, NODE);
    while (clock.sleeping === 0) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(2_999);
    expect(clock.sleeping).toBe(1);
    await clock.advance(1);
    await call;
    client.close();
    expect(server.requests).toHaveLength(2);
  });

  test("a wait beyond the call's time, or a second 429, is told to the caller", async () => {
    await using fake = await start(status(429, "Busy", {}, { "retry-after": "11" }));
    expect(await failure(fake.client.get(NODES, "a"))).toMatchObject({ status: 429, retryAfterSeconds: 11 });
    fake.server.script(status(429, "Busy", {}, { "retry-after": "0" }));
    expect(await failure(fake.client.get(NODES, "a"))).toBeInstanceOf(TooManyRequestsError);
    expect(fake.server.requests).toHaveLength(3);
  });

  test("a read whose connection breaks is tried once more, a write is not", async () => {
    await using fake = await start(cut, json(NODE));
    await fake.client.get(NODES, "a");
    fake.server.script(cut, json(NODE));
    expect(await failure(fake.client.update(NODES, NODE))).toBeInstanceOf(UnreachableError);
    expect(fake.server.requests.map(({ method }) => method)).toEqual(["GET", "GET", "PUT"]);
  });
});

describe("watch()", () => {
  const added = (name: string, more: object = {}): string =>
    `${JSON.stringify({ type: "ADDED", object: { metadata: { name }, ...more } })}\n`;

  async function collect<T>(
    events: AsyncIterable<WatchEvent<T>>,
  ): Promise<{ events: WatchEvent<T>[]; error: unknown }> {
    const seen: WatchEvent<T>[] = [];
    try {
      for await (const event of events) seen.push(event);
      return { events: seen, error: undefined };
    } catch (error) {
      return { events: seen, error };
    }
  }

  test("asks for bookmarks, and ends when the server ends it", async () => {
    const bookmark = '{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"12"}}}\n';
    await using fake = await start(chunks([added("a"), bookmark], "end"));
    const { events, error } = await collect(fake.client.watch(NODES, { resourceVersion: "5", timeoutSeconds: 300 }));
    expect(error).toBeUndefined();
    expect(events).toEqual([
      { type: "ADDED", object: { apiVersion: "v1", kind: "Node", metadata: { name: "a" } } },
      { type: "BOOKMARK", resourceVersion: "12" },
    ]);
    expect(fake.server.requests[0]?.url).toBe(
      "/api/v1/nodes?watch=1&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=300",
    );
  });

  test("a character that arrives in two chunks is whole", async () => {
    const bytes = Buffer.from(added("a", { metadata: { name: "a", labels: { city: "Zürich 🏔" } } }));
    const parts = Array.from(bytes, (_, i) => bytes.subarray(i, i + 1));
    await using fake = await start(chunks(parts, "end"));
    const { events } = await collect(fake.client.watch(NODES, { resourceVersion: "5" }));
    expect(events).toMatchObject([{ object: { metadata: { labels: { city: "Zürich 🏔" } } } }]);
  });

  test("an event of megabytes and many events in one chunk are all read", async () => {
    const huge = "x".repeat(3_000_000);
    await using fake = await start(chunks([added("huge", { huge }) + added("b") + added("c")], "end"));
    const { events } = await collect(fake.client.watch(NODES, { resourceVersion: "5" }));
    expect(events.map((event) => "object" in event && event.object.metadata.name)).toEqual(["huge", "b", "c"]);
    expect(events[0]).toMatchObject({ object: { huge } });
  });

  test("64-bit integers are exact, and a broken object is told with its name", async () => {
    const spec = `"cidr":"10.0.0.0/31","allocations":[null,null],"unallocated":[],"attributes":[],"strictAffinity":false`;
    const line = (name: string, n: string): string =>
      `{"type":"MODIFIED","object":{"metadata":{"name":"${name}"},"spec":{${spec},"sequenceNumber":${n}}}}\n`;
    await using fake = await start(chunks([line("a", "1787395200123456789"), line("b", '"x"')], "end"));
    const { events } = await collect(fake.client.watch(IPAM_BLOCKS, { resourceVersion: "5" }));
    expect(events).toMatchObject([
      { type: "MODIFIED", object: { spec: { sequenceNumber: 1787395200123456789n } } },
      { type: "INVALID", error: { objectName: "b", field: "spec.sequenceNumber" } },
    ]);
  });

  test("410 is GoneError, as an answer and as an event", async () => {
    const event = '{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n';
    for (const reply of [status(410, "Expired"), chunks([added("a"), event], "end")]) {
      await using fake = await start(reply);
      const { error } = await collect(fake.client.watch(NODES, { resourceVersion: "5" }));
      expect(error).toBeInstanceOf(GoneError);
    }
  });

  test("a connection that breaks is UnreachableError after the events that came whole", async () => {
    await using fake = await start(chunks([added("a"), '{"type":"ADD'], "cut"));
    const { events, error } = await collect(fake.client.watch(NODES, { resourceVersion: "5" }));
    expect(events).toHaveLength(1);
    expect(error).toBeInstanceOf(UnreachableError);
  });

  test("401 reads the credentials again, once", async () => {
    await using fake = await start(status(401, "Unauthorized"), chunks([], "end"));
    await collect(fake.client.watch(NODES, { resourceVersion: "5" }));
    expect(fake.server.requests.map(({ headers }) => headers.authorization)).toEqual(["Bearer t1", "Bearer t2"]);
  });

  test("a silent watch ends quietly when its signal aborts, and so does one without a head", async () => {
    for (const reply of [chunks([added("a")], "stay"), silence]) {
      await using fake = await start(reply);
      const abort = new AbortController();
      const ended = collect(fake.client.watch(NODES, { resourceVersion: "5", signal: abort.signal }));
      while (fake.server.requests.length === 0) await new Promise((resolve) => setImmediate(resolve));
      abort.abort();
      expect((await ended).error).toBeUndefined();
    }
  });

  test("leaving the loop closes the connection", async () => {
    let closed: Promise<unknown> | undefined;
    await using fake = await start(async (response) => {
      closed = new Promise((resolve) => response.once("close", resolve));
      await chunks([added("a")], "stay")(response, { method: "", url: "", headers: {}, body: "" });
    });
    for await (const _ of fake.client.watch(NODES, { resourceVersion: "5" })) break;
    await closed;
  });
});

// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { CallConnections } from "./call-connections.ts";
import { type Exchange, TransportError } from "./exchange.ts";
import { FakeServer, json } from "./fake-server.ts";

const GET: Exchange = { method: "GET", path: "/x", headers: {}, timeoutMs: 5000 };

function connectionsTo(server: FakeServer): CallConnections & Disposable {
  const connections = new CallConnections(server.url, {});
  return Object.assign(connections, { [Symbol.dispose]: () => connections.close() });
}

test("a burst of calls shares 16 connections, and all are answered", async () => {
  await using server = await FakeServer.start(json({}));
  using connections = connectionsTo(server);
  const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => connections.send({ ...GET, path: `/${i}` })));
  expect(answers.map(({ status }) => status)).toEqual(new Array(100).fill(200));
  expect(server.connections).toBe(16);
  expect(new Set(server.requests.map(({ url }) => url)).size).toBe(100);
});

test("a call that waits for a connection can be given up", async () => {
  const answer = Promise.withResolvers<void>();
  await using server = await FakeServer.start(async (response) => {
    await answer.promise;
    response.end("{}");
  });
  using connections = connectionsTo(server);
  const busy = Array.from({ length: 16 }, () => connections.send(GET));
  const caller = new AbortController();
  const waiting = connections.send({ ...GET, path: "/waiting", signal: caller.signal });
  const reason = new Error("hung up");
  caller.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  answer.resolve();
  await Promise.all(busy);
  expect(server.requests.map(({ url }) => url)).not.toContain("/waiting");
});

test("a connection that the server closed while it was idle is not used again", async () => {
  await using server = await FakeServer.start(json({}));
  using connections = connectionsTo(server);
  await connections.send(GET);
  server.cutConnections();
  // Until the end of the connection has arrived.
  await sleep(20);
  expect((await connections.send(GET)).status).toBe(200);
  expect(server.connections).toBe(2);
});

test("a call whose caller hangs up does not leave its late answer to the next one", async () => {
  const late = Promise.withResolvers<void>();
  await using server = await FakeServer.start(async (response, { url }) => {
    if (url === "/slow") await late.promise;
    response.end(JSON.stringify({ url }));
  });
  using connections = connectionsTo(server);
  const caller = new AbortController();
  const slow = connections.send({ ...GET, path: "/slow", signal: caller.signal });
  await sleep(20);
  caller.abort(new Error("hung up"));
  await expect(slow).rejects.toThrow("hung up");
  late.resolve();
  expect((await connections.send({ ...GET, path: "/next" })).text).toBe('{"url":"/next"}');
});

test("nothing that listens, and a client that was closed: nothing was sent", async () => {
  const server = await FakeServer.start(json({}));
  const connections = new CallConnections(server.url, {});
  await server[Symbol.asyncDispose]();
  await expect(connections.send(GET)).rejects.toMatchObject({ isUnsent: true });
  connections.close();
  await expect(connections.send(GET)).rejects.toThrow(TransportError);
});

test("connections from an address that is gone are not used again, and their calls fail at once", async () => {
  const never = Promise.withResolvers<void>();
  await using server = await FakeServer.start(async (response, { url }) => {
    if (url === "/silent") await never.promise;
    response.end("{}");
  });
  using connections = connectionsTo(server);
  await connections.send(GET);
  const silent = connections.send({ ...GET, path: "/silent" });
  const failed = expect(silent).rejects.toThrow(TransportError);
  const asked: string[] = [];
  while (!server.requests.some(({ url }) => url === "/silent")) await sleep(1);
  connections.dropFrom((address) => asked.push(address) < 0);
  expect(new Set(asked)).toEqual(new Set(["127.0.0.1"]));
  expect(server.connections).toBe(1);
  connections.dropFrom(() => true);
  await failed;
  expect((await connections.send(GET)).status).toBe(200);
  expect(server.connections).toBe(2);
  never.resolve();
});

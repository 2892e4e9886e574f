// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { NODES } from "../crds/core.ts";
import { HTTPKubeClient } from "./client.ts";
import { UnreachableError } from "./errors.ts";
import { chunks, cut, FakeServer, json, type Reply, status } from "./fake-server.ts";

const NODE = { apiVersion: "v1", kind: "Node", metadata: { name: "a", resourceVersion: "7" } };
const EVENT = `${JSON.stringify({ type: "ADDED", object: NODE })}\n`;

interface Servers extends AsyncDisposable {
  readonly servers: readonly [FakeServer, FakeServer, FakeServer];
  readonly client: HTTPKubeClient;
}

/** Three that answer the same, of which the client knows all. */
async function start(reply: Reply = json(NODE)): Promise<Servers> {
  const servers: Servers["servers"] = [
    await FakeServer.start(reply),
    await FakeServer.start(reply),
    await FakeServer.start(reply),
  ];
  const [first, ...others] = servers;
  const otherServers = others.map(({ url }) => url);
  const client = new HTTPKubeClient({ credentials: { ...first.credentials(), otherServers } });
  const dispose = async (): Promise<void> => {
    client.close();
    await Promise.all(servers.map(async (server) => await server[Symbol.asyncDispose]()));
  };
  return { servers, client, [Symbol.asyncDispose]: dispose };
}

const asked = ({ servers }: Servers): readonly number[] => servers.map(({ requests }) => requests.length);
const kill = async (server: FakeServer): Promise<void> => await server[Symbol.asyncDispose]();

describe("several API servers", () => {
  test("the first is asked as long as it answers, whatever it answers", async () => {
    await using fake = await start();
    await fake.client.get(NODES, "a");
    fake.servers[0].script(status(500, "InternalError"));
    await expect(fake.client.get(NODES, "a")).rejects.toThrow("InternalError");
    expect(asked(fake)).toEqual([2, 0, 0]);
  });

  test("one that is dead at the start is passed over, by writes too, and not asked again", async () => {
    await using fake = await start();
    await kill(fake.servers[0]);
    await kill(fake.servers[1]);
    await fake.client.create(NODES, NODE);
    await fake.client.get(NODES, "a");
    expect(fake.servers[2].requests.map(({ method }) => method)).toEqual(["POST", "GET"]);
  });

  test("one that dies while calls are under way: reads move on, a write that it may have taken is told", async () => {
    await using fake = await start();
    await fake.client.get(NODES, "a");
    fake.servers[0].script(async (response, request) => {
      const gone = kill(fake.servers[0]);
      await cut(response, request);
      await gone;
    });
    await expect(fake.client.create(NODES, NODE)).rejects.toThrow(UnreachableError);
    expect(asked(fake)).toEqual([2, 0, 0]);
    await fake.client.create(NODES, NODE);
    await Promise.all([1, 2, 3].map(async () => await fake.client.get(NODES, "a")));
    expect(asked(fake)).toEqual([2, 4, 0]);
  });

  test("after the last comes the first again", async () => {
    await using fake = await start();
    await kill(fake.servers[0]);
    await fake.client.get(NODES, "a");
    await kill(fake.servers[1]);
    await fake.client.get(NODES, "a");
    await kill(fake.servers[2]);
    await expect(fake.client.get(NODES, "a")).rejects.toThrow(/ECONNREFUSED/);
    expect(asked(fake)).toEqual([0, 1, 1]);
  });

  test("watches leave a server with the calls that found it dead, and begin anew at the next", async () => {
    await using fake = await start(chunks([EVENT], "stay"));
    const [first, second] = fake.servers;
    const watch = fake.client.watch(NODES, { resourceVersion: "1" });
    await watch.next();
    const brokenOff = expect(watch.next()).rejects.toThrow(UnreachableError);
    // Nobody listens there any more, and the watch's connection stays open: as with a machine that has lost its power.
    first.stopListening();
    second.script(json(NODE));
    await fake.client.get(NODES, "a");
    await brokenOff;
    second.script(chunks([EVENT], "stay"));
    const next = fake.client.watch(NODES, { resourceVersion: "1" });
    expect(await next.next()).toMatchObject({ value: { type: "ADDED" } });
    await next.return();
    expect(asked(fake)).toEqual([1, 2, 0]);
  });

  test("a watch alone finds the next server, too", async () => {
    await using fake = await start(chunks([EVENT], "stay"));
    await kill(fake.servers[0]);
    const watch = fake.client.watch(NODES, { resourceVersion: "1" });
    expect(await watch.next()).toMatchObject({ value: { type: "ADDED" } });
    await watch.return();
    expect(asked(fake)).toEqual([0, 1, 0]);
  });

  test("a watch on which nothing comes has the kernel ask whether its server is still there", async () => {
    await using fake = await start(chunks([EVENT], "stay"));
    const watch = fake.client.watch(NODES, { resourceVersion: "1" });
    await watch.next();
    const port = Number(fake.servers[0].url.port).toString(16).toUpperCase().padStart(4, "0");
    const toServer = readFileSync("/proc/net/tcp", "utf8")
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .filter(([, , remote, state]) => remote?.endsWith(`:${port}`) === true && state === "01");
    // proc(5): the sixth column begins with the kind of timer that runs; 02 is the one of TCP keepalive.
    expect(toServer.map((columns) => columns[5]?.slice(0, 2))).toEqual(["02"]);
    await watch.return();
  });

  test("a client that was closed asks none of them, not even when it had to leave the last one", async () => {
    await using fake = await start();
    await kill(fake.servers[0]);
    fake.servers[1].script(cut);
    await expect(fake.client.create(NODES, NODE)).rejects.toThrow(UnreachableError);
    fake.servers[1].script(json(NODE));
    fake.client.close();
    await expect(fake.client.get(NODES, "a")).rejects.toThrow("closed");
    expect(asked(fake)).toEqual([0, 1, 0]);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { NODES } from "../crds/core.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { HTTPKubeClient } from "./client.ts";
import { ForbiddenError, UnreachableError } from "./errors.ts";
import { cut, FakeServer, json } from "./fake-server.ts";
import { OutageLog } from "./outage-log.ts";

function setUp() {
  const clock = new FakeClock();
  const said: string[] = [];
  const say = (level: string) => (fields: object, message: string) =>
    void said.push(`${level} ${message} ${JSON.stringify(fields)}`);
  const outages = new OutageLog({ log: { debug: () => {}, info: say("info"), warn: say("warn") }, clock });
  return { clock, said, outages };
}

const away = (resource: string) =>
  new UnreachableError({ verb: "watch", resource }, "connect ECONNREFUSED 10.96.0.1:443");

test("an outage is told when it begins, once a minute, and when it is over", async () => {
  const { clock, said, outages } = setUp();
  outages.answered();
  for (const seconds of [0, 1, 1, 57, 1, 30]) {
    await clock.advance(seconds * 1000);
    for (const resource of ["nodes", "pods"]) expect(outages.failed(away(resource))).toBe(true);
  }
  outages.answered();
  outages.answered();
  const why = "connect ECONNREFUSED 10.96.0.1:443; check that the API server runs and is reachable; it is tried again";
  expect(said).toEqual([
    `warn Cannot watch nodes: ${why} {"code":"KubeUnreachable","awayMs":0}`,
    `warn Cannot watch nodes: ${why} {"code":"KubeUnreachable","awayMs":60000}`,
    `info The API server answers again {"awayMs":90000}`,
  ]);
});

test("what a server answers is for others to tell", () => {
  const { said, outages } = setUp();
  expect(outages.failed(new ForbiddenError({ verb: "list", resource: "nodes" }, { status: 403, message: "no" }))).toBe(
    false,
  );
  expect(said).toEqual([]);
});

test("the client tells of the first answer after a call that had none", async () => {
  const { said, clock, outages } = setUp();
  await using server = await FakeServer.start(cut);
  const client = new HTTPKubeClient({ credentials: server.credentials(), clock, onAnswer: () => outages.answered() });
  await client.get(NODES, "a").catch((error: unknown) => outages.failed(error));
  server.script(json({ apiVersion: "v1", kind: "Node", metadata: { name: "a" } }));
  await client.get(NODES, "a");
  await client.get(NODES, "a");
  expect(said).toEqual([expect.stringMatching(/^warn Cannot get nodes a/), expect.stringMatching(/^info .*again/)]);
  client.close();
});

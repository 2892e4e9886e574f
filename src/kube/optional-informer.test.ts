// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { FELIX_CONFIGURATIONS, type FelixConfiguration } from "../crds/felix-configuration.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { ForbiddenError, NotFoundError, UnreachableError } from "./errors.ts";
import { MemoryClient } from "./memory-client.ts";
import { OptionalInformer } from "./optional-informer.ts";

const TARGET = { verb: "list", resource: "felixconfigurations.crd.projectcalico.org" };

function setUp() {
  const client = new MemoryClient();
  const clock = new FakeClock();
  const errors: unknown[] = [];
  const informer = new OptionalInformer<FelixConfiguration, string>({
    client,
    resource: FELIX_CONFIGURATIONS,
    project: ({ metadata }) => metadata.name,
    clock,
    random: () => 0,
    onError: (error) => errors.push(error),
  });
  const told: string[] = [];
  void informer.firstTry.then(() => told.push("firstTry"));
  void informer.synced.then(() => told.push("synced"));
  client.seed(FELIX_CONFIGURATIONS, {
    apiVersion: "crd.projectcalico.org/v1",
    kind: "FelixConfiguration",
    metadata: { name: "default" },
    spec: {},
  });
  return { client, clock, errors, informer, told };
}

test("synced when the list is there", async () => {
  const { clock, informer, told, errors } = setUp();
  informer.start();
  await clock.advance(10);
  expect([told.toSorted(), [...informer.list()], errors]).toEqual([["firstTry", "synced"], ["default"], []]);
  await informer.stop();
});

test.each([
  ["is not installed", new NotFoundError(TARGET, { status: 404 }), undefined],
  ["may not be read", new ForbiddenError(TARGET, { status: 403 }), "grant the right"],
])("a kind that %s counts as one without objects, which come later", async (_, error, unreadable) => {
  const { client, clock, informer, told, errors } = setUp();
  client.onCall = () => ({ kind: "fail", error });
  informer.start();
  await clock.advance(10);
  expect([told.toSorted(), [...informer.list()], errors]).toEqual([["firstTry", "synced"], [], []]);
  if (unreadable === undefined) expect(informer.unreadable).toBeUndefined();
  else expect(informer.unreadable).toContain(unreadable);
  client.onCall = undefined;
  await clock.advance(60_000);
  expect([[...informer.list()], informer.unreadable]).toEqual([["default"], undefined]);
  await informer.stop();
});

test("while the server does not answer, nothing is known", async () => {
  const { client, clock, informer, told, errors } = setUp();
  client.onCall = () => ({ kind: "fail", error: new UnreachableError(TARGET, "no answer") });
  informer.start();
  await clock.advance(10);
  expect([told, errors.length > 0]).toEqual([["firstTry"], true]);
  client.onCall = undefined;
  await clock.advance(60_000);
  expect(told).toEqual(["firstTry", "synced"]);
  await informer.stop();
});

// SPDX-License-Identifier: Apache-2.0
import { afterAll, beforeAll, describe } from "vitest";
import { KubeStore } from "../../src/ipam/kube-store.ts";
import { describeStore } from "../../src/ipam/store.contract.ts";
import { describeKubeClient } from "../../src/kube/client.contract.ts";
import { embeddedServer, namedServers, type TestServer } from "./support/api-servers.ts";

/** The contracts that the memory store and the memory client keep, on API servers: so the fakes cannot lie. */

const named = namedServers();

// kube-client.test.ts has the embedded one.
for (const { name, start } of named) describeKubeClient(name, start);

describe.each([embeddedServer({ hasDisk: true }), ...named])("$name", ({ name, start }) => {
  let server: TestServer;
  beforeAll(async () => {
    server = await start();
  });
  afterAll(() => server.stop());
  describeStore(`KubeStore on ${name}`, () => new KubeStore(server.client));
});

// SPDX-License-Identifier: Apache-2.0
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { httpGate } from "../../src/cni/http-gate.ts";

/** `readiness_gates` over real HTTP. Answers the status that the path names; /0 never answers. */

let server: Server;
let url: string;
beforeAll(async () => {
  server = createServer((request, response) => {
    const status = Number(request.url?.slice(1));
    if (status > 0) response.writeHead(status, { Location: "/500" }).end("x".repeat(100_000));
  });
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  url = `http://localhost:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const ask = (path: string, signal = AbortSignal.timeout(10_000)): Promise<string | undefined> =>
  httpGate(`${url}/${path}`, signal);

it.each([200, 204, 302, 399])("status %i is ready", async (status) => {
  expect(await ask(String(status))).toBeUndefined();
});

it.each([404, 503])("status %i is not", async (status) => {
  expect(await ask(String(status))).toBe(`it answered status ${status}`);
});

it("nor is one that nobody serves, or that does not answer", async () => {
  expect(await httpGate("http://127.0.0.1:1/", AbortSignal.timeout(10_000))).toContain("ECONNREFUSED");
  expect(await ask("0", AbortSignal.timeout(50))).toBe("it did not answer");
});

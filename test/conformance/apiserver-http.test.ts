// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { describe, expect, it, onTestFinished } from "vitest";
import { type ApiServer, createApiServer } from "../../src/apiserver/api-server.ts";
import { BLOCK_CRD, BLOCKS, block } from "../../src/apiserver/fake-client.ts";
import type { Fault } from "../../src/apiserver/http.ts";
import { parseJSON, stringifyJSON } from "../../src/lib/json.ts";
import { http } from "./apiserver-support.ts";

async function start(options: Parameters<typeof createApiServer>[0] = {}): Promise<ApiServer> {
  const server = await createApiServer({ manifests: [BLOCK_CRD], ...options });
  onTestFinished(() => server.close());
  return server;
}

/** Sends text over TLS and answers all that comes until the server closes. */
function raw(server: ApiServer, text: string): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const url = new URL(server.url);
  let answer = "";
  const socket = connect({
    host: url.hostname,
    port: Number(url.port),
    ...(server.ca !== undefined && { ca: server.ca }),
  });
  socket.setEncoding("utf8").on("data", (chunk: string) => {
    answer += chunk;
  });
  socket.on("error", () => resolve(answer)).on("close", () => resolve(answer));
  socket.write(text);
  return promise;
}

describe("the API server over HTTPS", () => {
  it("refuses a body over 3 MiB with 413, and one that is not JSON with 400, as Status objects", async () => {
    const server = await start();
    const large = await http(server, "POST", BLOCKS, `{"x":"${"y".repeat(3 * 1024 * 1024)}"}`);
    expect(parseJSON(large.text)).toMatchObject({ kind: "Status", code: 413, reason: "RequestEntityTooLarge" });
    const broken = await http(server, "POST", BLOCKS, "{ half");
    expect(parseJSON(broken.text)).toMatchObject({ kind: "Status", code: 400, reason: "BadRequest" });
    expect((await http(server, "POST", BLOCKS, "", { authorization: "" })).headers["www-authenticate"]).toContain(
      "Bearer",
    );
  });

  it("answers bytes that are not HTTP and goes on", async () => {
    const server = await start();
    expect(await raw(server, "NONSENSE\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 [\s\S]*"kind":"Status"/);
    expect(await raw(server, "GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).toMatch(/^HTTP\/1\.1 4\d\d/);
    expect((await http(server, "GET", "/readyz")).status).toBe(200);
  });

  it("sends warnings as headers and a 304 for a known document", async () => {
    const server = await start();
    const created = await http(server, "POST", BLOCKS, stringifyJSON(block("a", { colour: "red" })));
    expect([created.status, created.headers["warning"]]).toEqual([201, '299 - "unknown field \\"spec.colour\\""']);
    const accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    const first = await http(server, "GET", "/apis", undefined, { accept });
    expect(first.headers["content-type"]).toBe(accept);
    const second = await http(server, "GET", "/apis", undefined, {
      accept,
      "if-none-match": String(first.headers["etag"]),
    });
    expect([second.status, second.text]).toEqual([304, ""]);
  });

  it("streams a watch and ends it after timeoutSeconds", async () => {
    const server = await start();
    const watching = http(server, "GET", `${BLOCKS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true`);
    await http(server, "POST", BLOCKS, stringifyJSON(block("a", { sequenceNumber: 1763734567890123457n })));
    const lines = (await watching).text.trim().split("\n").map(parseJSON);
    expect(lines).toMatchObject([
      { type: "ADDED", object: { spec: { sequenceNumber: 1763734567890123457n } } },
      { type: "BOOKMARK", object: { kind: "Block" } },
    ]);
  });

  it("goes on after a restart with objects, definitions and certificates, and sends old watches away with 410", async () => {
    const dir = mkdtempSync(join(tmpdir(), "gingham-api-"));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    const options = { data: join(dir, "api.db"), certDir: join(dir, "pki") };
    const first = await createApiServer({ manifests: [BLOCK_CRD], ...options });
    await http(first, "POST", BLOCKS, stringifyJSON(block("a")));
    const version = /"resourceVersion":"(\d+)"/.exec((await http(first, "GET", BLOCKS)).text)?.[1];
    await http(first, "POST", BLOCKS, stringifyJSON(block("b")));
    await first.close();
    const second = await createApiServer(options);
    onTestFinished(() => second.close());
    expect(second.ca).toBe(first.ca);
    expect(parseJSON((await http(second, "GET", BLOCKS)).text)).toMatchObject({
      items: [{ metadata: { name: "a" } }, { metadata: { name: "b" } }],
    });
    const old = await http(second, "GET", `${BLOCKS}?watch=true&resourceVersion=${version}`);
    expect(parseJSON(old.text)).toMatchObject({ type: "ERROR", object: { code: 410 } });
  });

  it("takes 32 writes at once and loses none to another", async () => {
    const server = await start();
    await http(server, "POST", BLOCKS, stringifyJSON(block("a")));
    const patch = (i: number): Promise<unknown> =>
      http(server, "PATCH", `${BLOCKS}/a`, stringifyJSON({ spec: { sequences: { [`k${i}`]: BigInt(i) } } }), {
        "content-type": "application/merge-patch+json",
      });
    await Promise.all(Array.from({ length: 32 }, (_, i) => patch(i)));
    const { text } = await http(server, "GET", `${BLOCKS}/a`);
    expect(Object.keys((parseJSON(text) as { spec: { sequences: object } }).spec.sequences)).toHaveLength(32);
  });
});

describe("intercept", () => {
  async function withFault(fault: Fault): Promise<ApiServer> {
    let isFirst = true;
    return start({
      intercept: ({ method, path, body }) => {
        const isMeant = method === "POST" && path === BLOCKS && JSON.stringify(body).includes('"a"');
        if (!isMeant || !isFirst) return undefined;
        isFirst = false;
        return fault;
      },
    });
  }

  it("answers for the server, which does nothing", async () => {
    const server = await withFault({ status: 429, headers: { "retry-after": "1" } });
    const refused = await http(server, "POST", BLOCKS, stringifyJSON(block("a")));
    expect([refused.status, refused.headers["retry-after"]]).toEqual([429, "1"]);
    expect(parseJSON(refused.text)).toMatchObject({ kind: "Status", reason: "TooManyRequests" });
    expect((await http(server, "POST", BLOCKS, stringifyJSON(block("a")))).status).toBe(201);
  });

  it("drops the connection before or after the write", async () => {
    const before = await withFault({ drop: true });
    await expect(http(before, "POST", BLOCKS, stringifyJSON(block("a")))).rejects.toThrow();
    expect((await http(before, "GET", `${BLOCKS}/a`)).status).toBe(404);
    const after = await withFault({ dropAfter: true });
    await expect(http(after, "POST", BLOCKS, stringifyJSON(block("a")))).rejects.toThrow();
    expect((await http(after, "GET", `${BLOCKS}/a`)).status).toBe(200);
  });
});

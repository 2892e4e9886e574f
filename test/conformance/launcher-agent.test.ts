// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { decodeEnvelope } from "../../src/cni/envelope.ts";
import { SUPPORTED_VERSIONS } from "../../src/cni/versions.ts";
import { buildLauncher, httpAnswer, LAUNCHER_SOURCE, LauncherBench, serveScript } from "./support/launcher.ts";

const CONF = JSON.stringify({ cniVersion: "1.0.0", name: "net", type: "gingham" });
let bench: LauncherBench;
beforeAll(() => {
  bench = new LauncherBench();
});
afterAll(() => bench[Symbol.dispose]());

describe("the program", () => {
  it("is static and smaller than 100 KB, as its own compile line makes it", () => {
    const output = join(bench.folder, "release");
    buildLauncher(output);
    expect(statSync(output).size).toBeLessThan(100_000);
    const headers = execFileSync("readelf", ["--program-headers", "--dynamic", output], { encoding: "utf8" });
    expect(headers).not.toMatch(/INTERP|NEEDED/);
    expect(headers).toContain("There is no dynamic section");
  });

  it("knows the same versions as the agent", () => {
    const list = /supportedVersions\\":\[([^\]]*)\]/.exec(readFileSync(LAUNCHER_SOURCE, "utf8"))?.[1];
    expect(list?.replaceAll('\\"', "").split(",")).toEqual([...SUPPORTED_VERSIONS]);
  });
});

describe("with an agent", () => {
  it("sends one request with the CNI variables and stdin, and prints the answer", async () => {
    await using server = await serveScript(bench.socketPath, (_request, socket) =>
      socket.end(httpAnswer(200, '{"a":1}')),
    );
    const args = "K8S_POD_NAME=wéb;X=a\nb";
    const run = await bench.run(bench.env("ADD", { CNI_ARGS: args, HOME: "/root" }), CONF);
    expect(run).toMatchObject({ stdout: '{"a":1}', stderr: "", exitCode: 0 });
    expect(server.requests).toHaveLength(1);
    const [request = ""] = server.requests;
    expect(request.startsWith("POST /cni HTTP/1.1\r\nHost: ")).toBe(true);
    const body = Buffer.from(request.slice(request.indexOf("\r\n\r\n") + 4));
    expect(decodeEnvelope(body)).toEqual({
      env: {
        CNI_COMMAND: "ADD",
        CNI_CONTAINERID: "c1",
        CNI_NETNS: "/run/netns/c1",
        CNI_IFNAME: "eth0",
        CNI_PATH: "/opt/cni/bin",
        CNI_ARGS: args,
      },
      stdin: CONF,
    });
  });

  it("prints an error's body and exits with 1; an empty success prints nothing", async () => {
    const error = JSON.stringify({ cniVersion: "1.0.0", code: 7, msg: "mtu" });
    {
      await using _ = await serveScript(bench.socketPath, (_request, socket) => socket.end(httpAnswer(500, error)));
      expect(await bench.run(bench.env("ADD"), CONF)).toMatchObject({ stdout: error, exitCode: 1 });
    }
    await using _ = await serveScript(bench.socketPath, (_request, socket) => socket.end(httpAnswer(200, "")));
    expect(await bench.run(bench.env("DEL"), CONF)).toMatchObject({ stdout: "", exitCode: 0 });
  });

  it("puts together an answer that comes in pieces, and one that is large", async () => {
    const large = JSON.stringify({ x: "ü".repeat(300_000) });
    await using _ = await serveScript(bench.socketPath, (request, socket) => {
      if (request.includes("CNI_COMMAND=DEL")) {
        socket.end(httpAnswer(200, large));
        return;
      }
      const answer = httpAnswer(200, '{"pieces":true}');
      const next = (at: number): void => {
        if (at >= answer.length) return;
        socket.write(answer[at] ?? "");
        setImmediate(next, at + 1);
      };
      next(0);
    });
    expect(await bench.run(bench.env("ADD"), CONF)).toMatchObject({ stdout: '{"pieces":true}', exitCode: 0 });
    expect((await bench.run(bench.env("DEL"), CONF)).stdout === large).toBe(true);
  });

  it.each([
    ["at once", ""],
    ["within the head", "HTTP/1.1 200 OK\r\nContent-Le"],
    ["within the body", httpAnswer(200, '{"a":1}').slice(0, -1)],
    ["without a length", 'HTTP/1.1 200 OK\r\n\r\n{"a":1}'],
    ["after something that is no HTTP", "hello\r\n\r\n"],
  ])("answers 11 and asks nobody else when the agent goes away %s", async (_when, text) => {
    const kubeconfig = JSON.stringify({ ...(JSON.parse(CONF) as object), kubernetes: { kubeconfig: "/k" } });
    writeFileSync(join(bench.folder, "gingham-standalone"), "#!/bin/sh\necho standalone\n", { mode: 0o755 });
    await using server = await serveScript(bench.socketPath, (_request, socket) => socket.end(text));
    for (const command of ["ADD", "DEL"]) {
      const run = await bench.run(bench.env(command), kubeconfig);
      expect(run.exitCode).toBe(1);
      expect(JSON.parse(run.stdout)).toMatchObject({ cniVersion: "1.0.0", code: 11 });
    }
    expect(server.requests).toHaveLength(2);
    execFileSync("rm", [join(bench.folder, "gingham-standalone")]);
  });

  it("answers 11 when the agent is too slow", async () => {
    await using _ = await serveScript(bench.socketPath, () => {});
    const run = await bench.run(bench.env("ADD"), CONF);
    expect(JSON.parse(run.stdout)).toMatchObject({ code: 11 });
    expect(run.exitCode).toBe(1);
  });

  it("sends 1 MiB of stdin and refuses more", async () => {
    await using server = await serveScript(bench.socketPath, (_request, socket) => socket.end(httpAnswer(200, "{}")));
    const pad = (size: number) => CONF.replace("net", "n".repeat(size - CONF.length + 3));
    expect(await bench.run(bench.env("ADD"), pad(1 << 20))).toMatchObject({ stdout: "{}", exitCode: 0 });
    const run = await bench.run(bench.env("ADD"), pad((1 << 20) + 1));
    expect(JSON.parse(run.stdout)).toMatchObject({ cniVersion: "1.0.0", code: 6 });
    expect(server.requests).toHaveLength(1);
  });

  it("reads the answer of an agent that refuses before it has read everything", async () => {
    const error = JSON.stringify({ cniVersion: "1.0.0", code: 6, msg: "too long" });
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.write(httpAnswer(413, error));
      socket.end();
      socket.resume();
    });
    await new Promise<void>((resolve) => server.listen(bench.socketPath, resolve));
    const run = await bench.run(bench.env("ADD"), CONF);
    expect(run).toMatchObject({ stdout: error, exitCode: 1 });
    await new Promise((resolve) => server.close(resolve));
  });
});

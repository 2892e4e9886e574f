// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SUPPORTED_VERSIONS } from "../../src/cni/input/versions.ts";
import { decodeEnvelope, pendingNameIn } from "../../src/cni/server/envelope.ts";
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
        GINGHAM_CALL: expect.stringMatching(/^\d{20}-\d+$/) as string,
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

  /** What an agent leaves that dies while it answers. */
  const CUT_OFF: readonly (readonly [string, string])[] = [
    ["at once", ""],
    ["within the head", "HTTP/1.1 200 OK\r\nContent-Le"],
    ["within the body", httpAnswer(200, '{"a":1}').slice(0, -1)],
    ["without a length", 'HTTP/1.1 200 OK\r\n\r\n{"a":1}'],
    ["after something that is no HTTP", "hello\r\n\r\n"],
  ];

  it.each(CUT_OFF)(
    "answers 11, or writes a DEL down, and asks nobody else when the agent goes away %s",
    async (_when, text) => {
      const kubeconfig = JSON.stringify({ ...(JSON.parse(CONF) as object), kubernetes: { kubeconfig: "/k" } });
      writeFileSync(join(bench.folder, "gingham-standalone"), "#!/bin/sh\necho standalone\n", { mode: 0o755 });
      await using server = await serveScript(bench.socketPath, (_request, socket) => socket.end(text));
      const adding = await bench.run(bench.env("ADD"), kubeconfig);
      expect(adding.exitCode).toBe(1);
      expect(JSON.parse(adding.stdout)).toMatchObject({ cniVersion: "1.0.0", code: 11 });
      expect(await bench.pending()).toEqual([]);
      expect(await bench.run(bench.env("DEL"), kubeconfig)).toMatchObject({ stdout: "", stderr: "", exitCode: 0 });
      expect(await bench.takePending()).toHaveLength(1);
      expect(server.requests).toHaveLength(2);
      execFileSync("rm", [join(bench.folder, "gingham-standalone")]);
    },
  );

  it.each([
    ["ADD", 11],
    ["CHECK", 11],
    ["STATUS", 50],
  ])("%s is error %i when the agent is too slow", async (command, code) => {
    await using _ = await serveScript(bench.socketPath, () => {});
    const run = await bench.run(bench.env(command), CONF);
    expect(JSON.parse(run.stdout)).toMatchObject({ code });
    expect(run.exitCode).toBe(1);
    expect(await bench.pending()).toEqual([]);
  });

  it("a DEL that the agent does not answer in time is written down, under the name that the agent was told", async () => {
    await using server = await serveScript(bench.socketPath, () => {});
    const run = await bench.run(bench.env("DEL"), CONF);
    expect(run).toMatchObject({ stdout: "", stderr: "", exitCode: 0 });
    expect(run.tookMs).toBeLessThan(5000);
    const [{ name, ...envelope } = { name: "" }] = await bench.takePending();
    expect(envelope).toMatchObject({ env: { CNI_COMMAND: "DEL", CNI_CONTAINERID: "c1" }, stdin: CONF });
    const [request = ""] = server.requests;
    const asked = decodeEnvelope(Buffer.from(request.slice(request.indexOf("\r\n\r\n") + 4)));
    expect(pendingNameIn(asked.env)).toBe(name);
  });

  it("a DEL of 1 MiB that the agent does not read to its end is written down whole", async () => {
    const sockets: Socket[] = [];
    const stuck = createServer({ pauseOnConnect: true }, (socket) => void sockets.push(socket));
    await new Promise<void>((resolve) => stuck.listen(bench.socketPath, resolve));
    const large = CONF.replace("net", "n".repeat((1 << 20) - CONF.length + 3));
    const run = await bench.run(bench.env("DEL"), large);
    expect(run).toMatchObject({ stdout: "", exitCode: 0 });
    const [{ stdin } = { stdin: "" }] = await bench.takePending();
    expect(stdin === large).toBe(true);
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => stuck.close(resolve));
  });

  it("a DEL that can neither be answered nor written down is an error", async () => {
    await using _ = await serveScript(bench.socketPath, () => {});
    rmSync(bench.stateDir, { recursive: true, force: true });
    writeFileSync(bench.stateDir, "a file in the way");
    const run = await bench.run(bench.env("DEL"), CONF);
    expect(JSON.parse(run.stdout)).toMatchObject({ code: 5, msg: expect.stringContaining(bench.stateDir) as string });
    expect(run.exitCode).toBe(1);
    rmSync(bench.stateDir);
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

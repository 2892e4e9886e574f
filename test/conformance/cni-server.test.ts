// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { execute } from "../../src/cni/executor.ts";
import { CONF, FakeMachine, type FakeProcess, K8S_ARGS } from "../../src/cni/fake-cni.ts";
import { recover } from "../../src/cni/reconcile.ts";
import { type CNIServer, listenCNI, lockSocket, SocketInUseError } from "../../src/cni/server/server.ts";
import { IPAMError } from "../../src/ipam/errors.ts";
import { LauncherBench } from "./support/launcher.ts";

const containing = (words: string): unknown => expect.stringContaining(words);

/** The real launcher, socket, server, commands and records; kernel and datastore are in memory. */
let bench: LauncherBench;
let machine: FakeMachine;
let agent: FakeProcess;
let server: CNIServer | undefined;
beforeAll(() => {
  bench = new LauncherBench();
});
afterAll(() => bench[Symbol.dispose]());
beforeEach(async () => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  agent = machine.start();
  server = await listen(agent);
});
afterEach(async () => {
  await server?.close();
  machine[Symbol.dispose]();
});

const listen = (process: FakeProcess) =>
  listenCNI({
    socketPath: bench.socketPath,
    execute: (env, stdin, signal) => execute(process.cni, env, stdin, signal),
    log: process.cni.log,
    takeoverMs: 200,
  });
const call = (command: string, conf: object = {}, env: Record<string, string> = {}) =>
  bench.run(
    { ...bench.env(command, { CNI_ARGS: K8S_ARGS, ...env }), GINGHAM_STATE_DIR: machine.stateDir },
    JSON.stringify({ ...CONF, ...conf }),
  );

/** Leaves a socket file that nobody listens on. */
function dieListeningOn(path: string): void {
  const code = "require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))";
  try {
    execFileSync(process.execPath, ["-e", code, path], { stdio: "ignore" });
  } catch {
    // It killed itself.
  }
}

describe("golden exchanges", () => {
  const v4 = { address: "10.244.0.64/32", interface: 1 };
  const routes = [{ dst: "0.0.0.0/0", gw: "169.254.1.1" }];
  const interfaces = [
    { name: "cali0d7763386da", mac: "ee:ee:ee:ee:ee:ee" },
    { name: "eth0", mac: "02:00:00:00:00:0a", sandbox: "/run/netns/c1" },
  ];
  const modern = { interfaces, ips: [v4], routes, dns: {} };
  const versioned = { interfaces, ips: [{ version: "4", ...v4 }], routes, dns: {} };
  const legacy = { ip4: { ip: "10.244.0.64/32", routes }, dns: {} };

  it.each([
    ["1.1.0", { ...modern, interfaces: interfaces.map((iface) => ({ ...iface, mtu: 1450 })) }],
    ["1.0.0", modern],
    ["0.4.0", versioned],
    ["0.3.1", versioned],
    ["0.3.0", versioned],
    ["0.2.0", legacy],
    ["0.1.0", legacy],
  ])("ADD and DEL in %s", async (cniVersion, result) => {
    const added = await call("ADD", { cniVersion });
    expect(added).toMatchObject({ exitCode: 0, stderr: "" });
    expect(JSON.parse(added.stdout)).toEqual({ cniVersion, ...result });
    const prevResult = JSON.parse(added.stdout) as object;
    const done = { exitCode: 0, stdout: "", stderr: "" };
    const checked = await call("CHECK", { cniVersion, prevResult });
    if (["1.1.0", "1.0.0", "0.4.0"].includes(cniVersion)) expect(checked).toMatchObject(done);
    else expect(JSON.parse(checked.stdout)).toMatchObject({ cniVersion, code: 1, msg: containing("since CNI 0.4.0") });
    expect(await call("DEL", { cniVersion, prevResult })).toMatchObject(done);
    expect(machine.kernel.links).toEqual([]);
    expect(machine.addresses.held).toEqual([]);
  });

  it("VERSION", async () => {
    const { exitCode, stdout } = await call("VERSION");
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toEqual({
      cniVersion: "1.0.0",
      supportedVersions: ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    });
  });

  it.each([
    ["ADD", {}, { CNI_NETNS: "", CNI_IFNAME: "" }, 4, "CNI_NETNS, CNI_IFNAME"],
    ["ADD", {}, { CNI_NETNS: "/run/netns/none" }, 4, "/run/netns/none"],
    ["ADD", {}, { CNI_IFNAME: "an-interface-name" }, 4, "CNI_IFNAME"],
    ["ADD", { cniVersion: "2.0.0" }, {}, 1, "2.0.0"],
    ["ADD", { mtu: "1500" }, {}, 7, "mtu"],
    ["ADD", { ipam: { type: "host-local" } }, {}, 108, "host-local"],
    ["FOO", {}, {}, 4, "CNI_COMMAND"],
    ["CHECK", {}, {}, 7, "prevResult"],
    ["CHECK", { prevResult: {} }, {}, 107, "record of the attachment"],
    ["GC", { cniVersion: "1.1.0" }, {}, 7, "cni.dev/valid-attachments"],
    ["GC", {}, {}, 1, "1.1.0"],
  ])("%s %j %j is error %i", async (command, conf, env, code, words) => {
    const { exitCode, stdout } = await call(command, conf, env);
    expect(exitCode).toBe(1);
    const error = JSON.parse(stdout) as { cniVersion: string };
    expect(error).toMatchObject({ code, msg: containing(words) });
    expect(["1.0.0", "1.1.0"]).toContain(error.cniVersion);
    expect(machine.kernel.links).toEqual([]);
    expect(machine.addresses.held).toEqual([]);
    expect(await agent.cni.records.list()).toEqual([]);
  });

  it("GC and STATUS, with no variable but the command", async () => {
    await call("ADD", { cniVersion: "1.1.0" });
    const env = { CNI_CONTAINERID: "", CNI_NETNS: "", CNI_IFNAME: "", CNI_ARGS: "" };
    const done = { exitCode: 0, stdout: "", stderr: "" };
    const listed = { "cni.dev/valid-attachments": [{ containerID: "c1", ifname: "eth0" }] };
    expect(await call("GC", { cniVersion: "1.1.0", ...listed }, env)).toMatchObject(done);
    expect(machine.kernel.links).toHaveLength(1);
    expect(await call("STATUS", { cniVersion: "1.1.0" }, env)).toMatchObject(done);
    expect(await call("GC", { cniVersion: "1.1.0", "cni.dev/valid-attachments": [] }, env)).toMatchObject(done);
    expect(machine.kernel.links).toEqual([]);
    expect(machine.addresses.held).toEqual([]);
    machine.addresses.away = new IPAMError("NoAddress", "No free address");
    const { exitCode, stdout } = await call("STATUS", { cniVersion: "1.1.0" }, env);
    expect(exitCode).toBe(1);
    expect(JSON.parse(stdout)).toEqual({ cniVersion: "1.1.0", code: 51, msg: containing(": No free address") });
  });

  it("stdin that is no JSON is error 6", async () => {
    const { exitCode, stdout } = await bench.run(bench.env("ADD"), "{");
    expect({ exitCode, ...(JSON.parse(stdout) as object) }).toMatchObject({
      exitCode: 1,
      code: 6,
      cniVersion: "1.1.0",
    });
  });
});

describe("the server", () => {
  it("is root's alone", () => {
    expect(statSync(bench.socketPath).mode & 0o777).toBe(0o600);
    expect(statSync(join(bench.socketPath, "..")).mode & 0o777).toBe(0o700);
  });

  it("serves many at once", async () => {
    const runs = Array.from({ length: 30 }, (_, i) => {
      machine.kernel.addNetns(`/run/netns/n${i}`);
      return call("ADD", {}, { CNI_CONTAINERID: `n${i}`, CNI_NETNS: `/run/netns/n${i}`, CNI_ARGS: "" });
    });
    for (const run of await Promise.all(runs)) expect(run.exitCode).toBe(0);
    expect(machine.kernel.links).toHaveLength(30);
    expect(new Set(machine.addresses.held.map(({ ip }) => ip)).size).toBe(30);
  });

  it("undoes an ADD whose caller was killed", async () => {
    const [reached, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    machine.addresses.assign = (_request, signal) => {
      reached.resolve();
      return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    };
    machine.addresses.releaseByHandle = async () => ended.resolve();
    const caller = new AbortController();
    void bench.run(bench.env("ADD"), JSON.stringify(CONF), caller.signal);
    await reached.promise;
    caller.abort();
    await ended.promise;
    while (!agent.logged.some((line) => line.message === "ADD cancelled")) await new Promise(setImmediate);
    expect(await agent.cni.records.list()).toEqual([]);
  });

  it("lets one agent at a time have the lock, also one that does not listen yet, and replaces a dead one's", async () => {
    const lock = (takeoverMs: number) => lockSocket({ socketPath: bench.socketPath, takeoverMs });
    const first = await lock(0);
    await expect(lock(200)).rejects.toBeInstanceOf(SocketInUseError);
    const second = lock(10_000);
    await first.close();
    await (await second).close();
    dieListeningOn(`${bench.socketPath}.lock`);
    await (await lock(0)).close();
    expect(readdirSync(join(bench.socketPath, ".."))).toEqual(["agent.sock"]);
  });

  it("replaces the socket of an agent that was killed, but not of one that lives", async () => {
    await expect(listen(machine.start())).rejects.toBeInstanceOf(SocketInUseError);
    expect((await call("VERSION")).exitCode).toBe(0);
    await server?.close();
    dieListeningOn(bench.socketPath);
    expect(readdirSync(join(bench.socketPath, ".."))).toEqual(["agent.sock"]);
    server = await listen(machine.start());
    expect((await call("ADD")).exitCode).toBe(0);
  });

  it("works off the DELs that were written down while it was away, before a new ADD", async () => {
    await call("ADD");
    await server?.close();
    expect(await call("DEL")).toMatchObject({ exitCode: 0, stdout: "" });
    expect(machine.addresses.held).toHaveLength(1);
    agent = machine.start();
    server = await listen(agent);
    expect((await call("ADD")).exitCode).toBe(0);
    expect(machine.addresses.requests).toHaveLength(2);
    await server.close();
    expect(await call("DEL")).toMatchObject({ exitCode: 0, stdout: "" });
    agent = machine.start();
    expect(await recover(agent.cni)).toMatchObject({ pending: 1 });
    expect(machine.addresses.held).toEqual([]);
    expect(machine.kernel.links).toEqual([]);
    server = await listen(agent);
  });

  it.each([
    ["GET", "/cni", "", 404],
    ["POST", "/other", "", 404],
    ["POST", "/cni", "no envelope", 500],
    ["POST", "/cni", "x".repeat(3 << 20), 413],
  ])("answers %s %s with an error object", async (method, path, body, status) => {
    const answered = await new Promise<{ status: number | undefined; body: string }>((resolve, reject) => {
      const outgoing = request({ socketPath: bench.socketPath, method, path }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () => resolve({ status: response.statusCode, body: text }));
      });
      outgoing.on("error", reject).end(body);
    });
    expect(answered.status).toBe(status);
    expect(JSON.parse(answered.body)).toMatchObject({ cniVersion: "1.1.0", msg: containing("") });
  });

  it.each([
    ["in one piece", "Content-Length", [32]],
    ["in pieces", "Content-Length", [5, 20, 7]],
    ["in chunks", "Transfer-Encoding", [32]],
  ])("answers a call that comes %s", async (_how, header, sizes) => {
    const body = `CNI_COMMAND=VERSION\0\0${JSON.stringify({ a: "" })}${" ".repeat(3)}`;
    const framed = header === "Content-Length" ? body : `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
    const value = header === "Content-Length" ? body.length : "chunked";
    const text = `POST /cni HTTP/1.1\r\nHost: gingham\r\n${header}: ${value}\r\n\r\n${framed}`;
    const socket = connect(bench.socketPath);
    const answer = new Promise<string>((resolve, reject) => {
      let all = "";
      socket.setEncoding("utf8").on("data", (chunk: string) => {
        all += chunk;
      });
      socket.on("end", () => resolve(all)).on("error", reject);
    });
    let at = 0;
    for (const size of sizes.length === 1 ? [text.length] : [...sizes, text.length]) {
      socket.write(text.slice(at, at + size));
      at += size;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(await answer).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*"supportedVersions"/);
  });

  it("closes although somebody is connected who has said nothing", async () => {
    const silent = connect(bench.socketPath);
    await once(silent, "connect");
    await server?.close();
    server = undefined;
    silent.destroy();
  });

  it("makes the socket's folder", async () => {
    await server?.close();
    rmSync(join(bench.socketPath, ".."), { recursive: true });
    server = await listen(agent);
    expect((await call("VERSION")).exitCode).toBe(0);
    mkdirSync(join(bench.folder, "run"), { recursive: true });
  });
});

// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { httpAnswer, LauncherBench, serveScript } from "./support/launcher.ts";

const containing = (words: string): unknown => expect.stringContaining(words);
const matching = (pattern: RegExp): unknown => expect.stringMatching(pattern);

const CONF = { cniVersion: "0.4.0", name: "net", type: "gingham" };
const stdin = JSON.stringify(CONF);
let bench: LauncherBench;
beforeEach(() => {
  bench = new LauncherBench();
});
afterEach(() => bench[Symbol.dispose]());

const pendingFolder = () => join(bench.stateDir, "pending");
const pending = () => bench.pending();

/** A socket file that nobody listens on, as a killed agent leaves it. */
async function leaveStaleSocket(): Promise<void> {
  const code = "require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))";
  try {
    execFileSync(process.execPath, ["-e", code, bench.socketPath], { stdio: "ignore" });
  } catch {
    // It killed itself.
  }
  expect(statSync(bench.socketPath).isSocket()).toBe(true);
}

describe("DEL without an agent", () => {
  it.each([
    ["no socket", async () => {}],
    ["a stale socket", leaveStaleSocket],
    ["no folder of the socket", async () => rmSync(join(bench.folder, "run"), { recursive: true })],
  ])("is written down at once, with %s", async (_why, arrange) => {
    await arrange();
    const run = await bench.run(bench.env("DEL", { CNI_ARGS: "K8S_POD_NAME=ü" }), stdin);
    expect(run).toMatchObject({ stdout: "", stderr: "", exitCode: 0 });
    expect(await pending()).toEqual([
      {
        name: matching(/^\d{20}-\d+\.del$/),
        env: {
          GINGHAM_CALL: matching(/^\d{20}-\d+$/),
          CNI_COMMAND: "DEL",
          CNI_CONTAINERID: "c1",
          CNI_NETNS: "/run/netns/c1",
          CNI_IFNAME: "eth0",
          CNI_PATH: "/opt/cni/bin",
          CNI_ARGS: "K8S_POD_NAME=ü",
        },
        stdin,
      },
    ]);
    expect(readdirSync(pendingFolder())).toHaveLength(1);
    expect(statSync(pendingFolder()).mode & 0o777).toBe(0o700);
    expect(statSync(join(pendingFolder(), readdirSync(pendingFolder())[0] ?? "")).mode & 0o777).toBe(0o600);
  });

  it("twenty at once are twenty files", async () => {
    const runs = Array.from({ length: 20 }, (_, i) => bench.run(bench.env("DEL", { CNI_CONTAINERID: `c${i}` }), stdin));
    for (const run of await Promise.all(runs)) expect(run.exitCode).toBe(0);
    const names = (await pending()).map((one) => one.env["CNI_CONTAINERID"]);
    expect(new Set(names)).toEqual(new Set(Array.from({ length: 20 }, (_, i) => `c${i}`)));
    expect(names).toHaveLength(20);
  });

  it("fails when it cannot be written down, and leaves nothing half-made", async () => {
    writeFileSync(bench.stateDir, "a file in the way");
    const run = await bench.run(bench.env("DEL"), stdin);
    expect(run.exitCode).toBe(1);
    expect(JSON.parse(run.stdout)).toMatchObject({ cniVersion: "0.4.0", code: 5 });
  });

  it("is refused when the agent could never work it off", async () => {
    const noID = await bench.run(bench.env("DEL", { CNI_CONTAINERID: "" }), stdin);
    expect(JSON.parse(noID.stdout)).toMatchObject({ code: 4, msg: containing("CNI_CONTAINERID") });
    const noConf = await bench.run(bench.env("DEL"), "");
    expect(JSON.parse(noConf.stdout)).toMatchObject({ code: 6 });
    expect(await pending()).toEqual([]);
  });
});

describe("ADD without an agent", () => {
  it("waits for an agent that comes back, and asks it once", async () => {
    const running = bench.run(bench.env("ADD"), stdin);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await using server = await serveScript(bench.socketPath, (_request, socket) => socket.end(httpAnswer(200, "{}")));
    expect(await running).toMatchObject({ stdout: "{}", exitCode: 0 });
    expect(server.requests).toHaveLength(1);
  });

  it("answers 11 in the end, in the configuration's version", async () => {
    const run = await bench.run(bench.env("ADD"), stdin);
    expect(run.exitCode).toBe(1);
    expect(JSON.parse(run.stdout)).toMatchObject({
      cniVersion: "0.4.0",
      code: 11,
      msg: containing(bench.socketPath),
    });
    expect(existsSync(bench.stateDir)).toBe(false);
  });
});

describe("other commands without an agent", () => {
  it("VERSION is answered here", async () => {
    const run = await bench.run(bench.env("VERSION", { CNI_NETNS: "dummy" }), '{"cniVersion":"1.0.0"}');
    expect(run.exitCode).toBe(0);
    expect(JSON.parse(run.stdout)).toEqual({
      cniVersion: "1.0.0",
      supportedVersions: ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    });
    expect(JSON.parse((await bench.run(bench.env("VERSION"), "")).stdout)).toMatchObject({ cniVersion: "1.1.0" });
  });

  it.each([
    ["STATUS", 50],
    ["CHECK", 11],
    ["GC", 11],
  ])("%s is error %i at once", async (command, code) => {
    const run = await bench.run(bench.env(command), stdin);
    expect(run.exitCode).toBe(1);
    expect(JSON.parse(run.stdout)).toMatchObject({ code });
  });

  it("no command is error 4, without a look at stdin", async () => {
    const run = await bench.run(bench.env(undefined), "");
    expect(JSON.parse(run.stdout)).toMatchObject({ cniVersion: "1.1.0", code: 4 });
  });

  it("escapes what it prints", async () => {
    const path = `${bench.folder}/"quote\\back\nfeed\x01é`;
    const run = await bench.run(bench.env("STATUS", { GINGHAM_SOCKET: path }), stdin);
    expect(JSON.parse(run.stdout)).toMatchObject({ msg: containing('"quote\\back\nfeed\x01') });
  });

  it.each([
    ['{"x":{"cniVersion":"0.3.1"},"y":"\\"cniVersion\\":\\"0.2.0\\"","cniVersion" : "0.4.0"}', "0.4.0"],
    ['{"a":[{"cniVersion":"0.1.0"},"]}{["],"b":-1.5e3,"c":null,"cniVersion":"1.0.0","d":true}', "1.0.0"],
    ['{"k\\\\":"v","cniVersion":"0.3.1"}', "0.3.1"],
    ['{"cniVersion":"0.3.1","cniVersion":"0.4.0"}', "0.4.0"],
    ['{"x":{"cniVersion":"0.3.1"}}', "1.1.0"],
    ['["cniVersion","0.3.1"]', "1.1.0"],
    ['{"cniVersion":3}', "1.1.0"],
    ['{"cniVersion":"1\\u002e0"}', "1.1.0"],
    ['{"cniVersion":"0.4', "1.1.0"],
    [`${'{"a":'.repeat(200)}`, "1.1.0"],
    ["", "1.1.0"],
    ["null", "1.1.0"],
  ])("finds the version of %s", async (text, cniVersion) => {
    expect(JSON.parse((await bench.run(bench.env("STATUS"), text)).stdout)).toMatchObject({ cniVersion, code: 50 });
  });
});

describe("a configuration with a kubeconfig", () => {
  const withKubeconfig = JSON.stringify({ ...CONF, kubernetes: { a: [], kubeconfig: "/etc/cni/k" } });
  const script = '#!/bin/sh\necho "$CNI_COMMAND $CNI_CONTAINERID $GINGHAM_EXTRA $(cat)"\nexit 3\n';
  const installStandalone = () => writeFileSync(join(bench.folder, "gingham-standalone"), script, { mode: 0o755 });

  it.each(["ADD", "DEL", "VERSION"])(
    "and no agent: %s goes to gingham-standalone with environment and stdin",
    async (command) => {
      installStandalone();
      const run = await bench.run(bench.env(command, { GINGHAM_EXTRA: "kept", PATH: "/bin:/usr/bin" }), withKubeconfig);
      expect(run).toMatchObject({ stdout: `${command} c1 kept ${withKubeconfig}\n`, exitCode: 3 });
      expect(await pending()).toEqual([]);
    },
  );

  it("and an agent: the agent is asked", async () => {
    installStandalone();
    await using _ = await serveScript(bench.socketPath, (_request, socket) => socket.end(httpAnswer(200, "{}")));
    expect(await bench.run(bench.env("ADD"), withKubeconfig)).toMatchObject({ stdout: "{}", exitCode: 0 });
  });

  it("and no gingham-standalone: as without one", async () => {
    expect(await bench.run(bench.env("DEL"), withKubeconfig)).toMatchObject({ stdout: "", exitCode: 0 });
    expect(await pending()).toHaveLength(1);
  });

  it.each([
    '{"name":"n","kubernetes":{"kubeconfig":""}}',
    '{"name":"n","kubeconfig":"/k"}',
    '{"name":"n","x":{"kubernetes":{"kubeconfig":"/k"}}}',
    '{"name":"n","x":"\\"kubernetes\\":{\\"kubeconfig\\":\\"/k\\"}"}',
    '{"name":"n","kubernetes":"kubeconfig"}',
  ])("but not %s", async (text) => {
    installStandalone();
    expect(await bench.run(bench.env("DEL"), text)).toMatchObject({ stdout: "", exitCode: 0 });
    expect(await pending()).toHaveLength(1);
  });
});

it("a listener whose queue is full is waited for, and a DEL in vain is written down", async () => {
  // Listens with a queue of one and never accepts; the kernel then answers connect with EAGAIN.
  const code =
    "import socket,sys,time\ns=socket.socket(socket.AF_UNIX);s.bind(sys.argv[1]);s.listen(0)\n" +
    "c=[socket.socket(socket.AF_UNIX) for _ in range(1)]\n[x.connect(sys.argv[1]) for x in c]\nprint('ready',flush=True)\ntime.sleep(30)";
  const listener = spawn("python3", ["-c", code, bench.socketPath], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => listener.stdout.once("data", resolve));
  const [adding, deleting] = await Promise.all(["ADD", "DEL"].map((verb) => bench.run(bench.env(verb), stdin)));
  listener.kill("SIGKILL");
  expect(JSON.parse(adding?.stdout ?? "")).toMatchObject({ code: 11 });
  expect(deleting).toMatchObject({ stdout: "", exitCode: 0 });
  expect(await pending()).toHaveLength(1);
});

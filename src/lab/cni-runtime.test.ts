// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { type AddResult, type Attachment, CNIRuntime, parseConflist, renderPluginConf } from "./cni-runtime.ts";
import { PluginError } from "./errors.ts";

const LIST = parseConflist(
  JSON.stringify({
    name: "pods",
    cniVersion: "1.0.0",
    plugins: [
      { type: "gingham", mtu: 0 },
      { type: "portmap", snat: true, capabilities: { portMappings: true } },
      { type: "bandwidth", capabilities: { bandwidth: true } },
    ],
  }),
);

const ATTACHMENT: Attachment = {
  containerID: "c1",
  netns: "/run/netns/c1",
  ifName: "eth0",
  args: [
    ["IgnoreUnknown", "1"],
    ["K8S_POD_NAME", "a"],
  ],
  capabilityArgs: { portMappings: [{ HostPort: 80 }], dns: {} },
};

function setUp(
  answers: Readonly<Record<string, { exitCode: number; stdout: string; stderr?: string }>> = {},
  list = LIST,
) {
  const calls: { type: string; env: Readonly<Record<string, string>>; conf: Record<string, unknown> }[] = [];
  const kept = new Map<string, AddResult>();
  const runtime = new CNIRuntime(list, {
    pluginPath: "/opt/cni/bin",
    async execute(type, { env, stdin }) {
      calls.push({ type, env, conf: JSON.parse(stdin) as Record<string, unknown> });
      const stdout = env["CNI_COMMAND"] === "ADD" ? JSON.stringify({ cniVersion: "1.0.0", by: type }) : "";
      return { exitCode: 0, stdout, stderr: "", ...answers[`${type} ${env["CNI_COMMAND"]}`] };
    },
    cache: {
      load: async (key) => kept.get(key),
      store: async (key, result) => void kept.set(key, result),
      remove: async (key) => void kept.delete(key),
    },
  });
  return { runtime, calls, kept };
}

test("add() gives each plugin the result of the one before and keeps the last", async () => {
  const { runtime, calls, kept } = setUp();
  await runtime.add(ATTACHMENT);
  expect(calls.map(({ type, conf }) => [type, conf["prevResult"]])).toEqual([
    ["gingham", undefined],
    ["portmap", { cniVersion: "1.0.0", by: "gingham" }],
    ["bandwidth", { cniVersion: "1.0.0", by: "portmap" }],
  ]);
  expect([...kept]).toEqual([["pods-c1-eth0", { cniVersion: "1.0.0", by: "bandwidth" }]]);
});

test("add() sets the variables of the specification", async () => {
  const { runtime, calls } = setUp();
  await runtime.add(ATTACHMENT);
  expect(calls[0]?.env).toEqual({
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: "c1",
    CNI_NETNS: "/run/netns/c1",
    CNI_IFNAME: "eth0",
    CNI_ARGS: "IgnoreUnknown=1;K8S_POD_NAME=a",
    CNI_PATH: "/opt/cni/bin",
  });
});

test("del() goes in reverse order, with the kept result, and forgets it", async () => {
  const { runtime, calls, kept } = setUp();
  await runtime.add(ATTACHMENT);
  calls.length = 0;
  await runtime.del(ATTACHMENT);
  expect(calls.map(({ type, conf }) => [type, conf["prevResult"]])).toEqual(
    ["bandwidth", "portmap", "gingham"].map((type) => [type, { cniVersion: "1.0.0", by: "bandwidth" }]),
  );
  expect(kept.size).toBe(0);
});

test("check() goes in the order of add(), with the kept result, and stops at the first complaint", async () => {
  const { runtime, calls } = setUp({ "portmap CHECK": { exitCode: 1, stdout: '{"code":999,"msg":"no rule"}' } });
  await runtime.add(ATTACHMENT);
  calls.length = 0;
  await expect(runtime.check(ATTACHMENT)).rejects.toMatchObject({ plugin: "portmap", command: "CHECK" });
  expect(calls.map(({ type, conf }) => [type, conf["prevResult"]])).toEqual(
    ["gingham", "portmap"].map((type) => [type, { cniVersion: "1.0.0", by: "bandwidth" }]),
  );
});

test("check() asks nobody when the list says disableCheck", async () => {
  const { runtime, calls } = setUp({}, parseConflist(JSON.stringify({ ...LIST, disableCheck: true })));
  await runtime.check(ATTACHMENT);
  expect(calls).toEqual([]);
});

test("del() of something never added runs every plugin without a result", async () => {
  const { runtime, calls } = setUp();
  await runtime.del(ATTACHMENT);
  expect(calls.map(({ conf }) => "prevResult" in conf)).toEqual([false, false, false]);
});

test("add() stops at the first plugin that fails, with its code and text", async () => {
  const stdout = JSON.stringify({ code: 11, msg: "try again", details: "the API server is down" });
  const { runtime, calls, kept } = setUp({ "portmap ADD": { exitCode: 1, stdout } });
  const error = await runtime.add(ATTACHMENT).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(PluginError);
  expect(error).toMatchObject({ plugin: "portmap", command: "ADD", cniCode: 11 });
  expect(String(error)).toContain("try again; the API server is down");
  expect(calls.map(({ type }) => type)).toEqual(["gingham", "portmap"]);
  expect(kept.size).toBe(0);
});

test("add() says so when a plugin dies without an error object", async () => {
  const { runtime } = setUp({ "gingham ADD": { exitCode: 139, stdout: "", stderr: "segfault" } });
  await expect(runtime.add(ATTACHMENT)).rejects.toThrow(/exit status 139 and no error object: {2}segfault|segfault/);
});

test("add() refuses a success without a result", async () => {
  const { runtime } = setUp({ "gingham ADD": { exitCode: 0, stdout: "hello" } });
  await expect(runtime.add(ATTACHMENT)).rejects.toThrow(/no result on stdout: hello/);
});

test("renderPluginConf() hands over only the capabilities that a plugin declares", () => {
  const render = (index: number) =>
    renderPluginConf(LIST, LIST.plugins[index] ?? { type: "" }, { capabilityArgs: ATTACHMENT.capabilityArgs });
  expect(render(0)).not.toHaveProperty("runtimeConfig");
  expect(render(1)["runtimeConfig"]).toEqual({ portMappings: [{ HostPort: 80 }] });
  expect(render(2)).not.toHaveProperty("runtimeConfig");
});

test("renderPluginConf() keeps a runtimeConfig of the file when the runtime has none", () => {
  const plugin = { type: "portmap", capabilities: { portMappings: true }, runtimeConfig: { portMappings: [1] } };
  expect(renderPluginConf(LIST, plugin, { capabilityArgs: {} })["runtimeConfig"]).toEqual({ portMappings: [1] });
});

test.each(["{}", "[]", '{"name":"a","cniVersion":"1.0.0"}', '{"name":"a","cniVersion":"1.0.0","plugins":[{}]}', "x"])(
  "parseConflist(%j) refuses what is no configuration list",
  (text) => {
    expect(() => parseConflist(text)).toThrow(SyntaxError);
  },
);

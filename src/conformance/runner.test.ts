// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { CHECKS, runConformance } from "./runner.ts";
import { renderReasons, renderSummary, renderTable } from "./table.ts";
import type { Answer, Machine } from "./types.ts";

const VERSIONS = { cniVersion: "1.1.0", supportedVersions: ["0.3.1", "1.1.0", "7.0.0"] };
const OPTIONS = { plugin: "fake", conf: { name: "net", type: "fake" }, args: "", pluginPath: "/bin" };

/** Answers VERSION rightly and all else by `answer`; its namespaces are names, and no link ever appears. */
function machineThat(answer: Answer): Machine & { namespaces: Set<string> } {
  const namespaces = new Set<string>();
  return {
    namespaces,
    call: async (env) =>
      env["CNI_COMMAND"] === "VERSION" ? { exitCode: 0, stdout: JSON.stringify(VERSIONS), stderr: "" } : answer,
    addNamespace: async () => {
      const path = `/run/netns/${namespaces.size}`;
      namespaces.add(path);
      return path;
    },
    removeNamespace: async (path) => void namespaces.delete(path),
    links: async () => [],
    addLink: async () => {},
    removeLink: async () => {},
    removeAddresses: async () => {},
  };
}

const OF_A_LIAR = [
  "VERSION lists the versions, in the version asked for",
  "VERSION asked in a version that the plugin does not know lists those that it does",
];

test("a plugin that says yes to all and does nothing passes no check of what ADD, CHECK and GC do", async () => {
  const report = await runConformance(machineThat({ exitCode: 0, stdout: "", stderr: "" }), OPTIONS);
  expect(report.versions).toEqual(["0.3.1", "1.1.0"]);
  const passed = new Set(report.results.filter(({ outcome }) => outcome === "pass").map(({ name }) => name));
  expect([...passed].sort()).toEqual(
    [
      ...OF_A_LIAR,
      "DEL without an ADD succeeds",
      "DEL after an ADD that failed succeeds",
      "ADD takes the keys that runtimes insert",
      "STATUS of a plugin that is ready prints nothing",
      "stdout holds JSON and nothing else, whatever the outcome",
      "ADD takes CNI_ARGS that it does not know, when IgnoreUnknown says so",
    ].sort(),
  );
});

test("a plugin that refuses all with one code passes only what wants that code, or any", async () => {
  const refusal = { exitCode: 1, stdout: JSON.stringify({ cniVersion: "1.1.0", code: 4, msg: "no" }), stderr: "" };
  const report = await runConformance(machineThat(refusal), OPTIONS);
  const own = report.results.filter(({ version, outcome }) => version === "1.1.0" && outcome === "pass");
  const names = own.map(({ name }) => name);
  expect(names).toContain("ADD without CNI_NETNS is refused with code 4");
  const others = names.filter((name) => !name.endsWith("code 4"));
  expect(others.filter((name) => /^(DEL|GC|STATUS|CHECK|a second)|code [167]$/.test(name))).toEqual([]);
});

test("a plugin that makes no interface is asked for none", async () => {
  const stdout = JSON.stringify({ cniVersion: "1.1.0", ips: [{ address: "10.0.0.2/24" }] });
  const report = await runConformance(machineThat({ exitCode: 0, stdout, stderr: "" }), {
    ...OPTIONS,
    versions: ["1.1.0"],
  });
  const skipped = report.results.filter(({ reason }) => reason === "the plugin makes no interface");
  expect(skipped.map(({ name }) => name)).toContain(
    "ADD makes CNI_IFNAME in the namespace, with the addresses of the result",
  );
});

test("what a check does not take away is taken away after it, also when the machine fails", async () => {
  const machine = machineThat({ exitCode: 0, stdout: "", stderr: "" });
  const broken = { ...machine, links: () => Promise.reject(new Error("no ip")) };
  const stdout = JSON.stringify({ cniVersion: "1.1.0" });
  broken.call = async (env) =>
    env["CNI_COMMAND"] === "ADD" ? { exitCode: 0, stdout, stderr: "" } : await machine.call(env, "");
  const { results } = await runConformance(broken, OPTIONS);
  expect(results.find(({ name }) => name.startsWith("ADD makes CNI_IFNAME"))).toMatchObject({
    outcome: "fail",
    reason: "not judged: no ip",
  });
  expect(machine.namespaces.size).toBe(0);
});

test("no two checks have the same name, and the table has a line for each and a mark for each version", async () => {
  expect(new Set(CHECKS.map(({ name }) => name)).size).toBe(CHECKS.length);
  const report = {
    plugin: "fake",
    versions: ["0.4.0", "1.1.0"] as const,
    results: [
      { name: "a", section: "2, ADD", version: "0.4.0", outcome: "fail", reason: "x\ny" },
      { name: "a", section: "2, ADD", version: "1.1.0", outcome: "pass" },
      { name: "b", section: "2, GC", version: "1.1.0", outcome: "skip", reason: "z" },
    ] as const,
  };
  expect(renderTable(report)).toBe(`| check | section | 0.4.0 | 1.1.0 |
|-------|---------|-------|-------|
| a     | 2, ADD  | FAIL  | ok    |
| b     | 2, GC   |       | skip  |
`);
  expect(renderReasons(report)).toBe("- FAIL: a (0.4.0): x y\n- skip: b (1.1.0): z\n");
  expect(renderSummary(report)).toBe("fake: 1 passed, 1 failed, 1 skipped\n");
});

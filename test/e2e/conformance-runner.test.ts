// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SUPPORTED_VERSIONS } from "../../src/cni/input/versions.ts";
import type { Report } from "../../src/conformance/model.ts";
import { renderSummary, renderTable } from "../../src/conformance/table.ts";
import { startLab } from "../../src/lab/remote.ts";
import { type RunResult, run } from "../../src/lab/run.ts";
import { requirePrograms } from "./support/chain.ts";
import { ROOT } from "./support/stack.ts";

/** `npm run conformance` on gingham, with its agent on a lab node, and on Debian's ptp and bridge in its own sandbox. */

const PROGRAM = [process.execPath, "--disable-warning=ExperimentalWarning", join(ROOT, "dist/conformance.mjs")];
/** Hundreds of namespaces, one after the other: half a minute on a machine at rest. */
const TIMEOUT_MS = 240_000;
const CONFS = {
  ptp: { ipam: { type: "host-local", subnet: "10.77.0.0/16" } },
  bridge: { bridge: "cni9", isGateway: true, ipam: { type: "host-local", subnet: "10.78.0.0/16" } },
};

let dir: string;
beforeAll(async () => {
  const programs = ["ptp", "bridge", "host-local"].map((name) => [
    `/usr/lib/cni/${name}`,
    "containernetworking-plugins",
  ]);
  await requirePrograms(Object.fromEntries(programs) as Record<string, string>);
  dir = mkdtempSync(join(tmpdir(), "conformance-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

function parseReport({ stdout, stderr }: RunResult): Report {
  expect(stderr).toBe("");
  return JSON.parse(stdout) as Report;
}

/** The checks that did not pass, each with the reason of its first version, and how many versions. */
function complaintsOf({ results }: Report): Record<string, string> {
  const bad = results.filter(({ outcome }) => outcome !== "pass");
  const groups = Map.groupBy(bad, ({ name }) => name);
  return Object.fromEntries([...groups].map(([name, group]) => [name, `${group.length} × ${group[0]?.reason}`]));
}

function expectInDocument(report: Report): void {
  const document = readFileSync(join(ROOT, "docs/cni-conformance.md"), "utf8");
  expect(document, "docs/cni-conformance.md is not what the runner says").toContain(renderTable(report));
  expect(document).toContain(renderSummary(report));
}

test("gingham passes every check in every version", { timeout: TIMEOUT_MS }, async () => {
  const lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 1, pods: 0 });
  try {
    const conf = { name: "conformance", type: "gingham", ipam: { type: "gingham-ipam" } };
    const command = [...PROGRAM, "--here", "--json", "--plugin", "/opt/cni/bin/gingham", "--conf", "/run/gingham.conf"];
    const script = `echo '${JSON.stringify(conf)}' > /run/gingham.conf; exec ${command.join(" ")}`;
    const result = await lab.exec("node-1", ["sh", "-c", script]);
    const report = parseReport(result);
    expect(complaintsOf(report)).toEqual({});
    expect(result.exitCode).toBe(0);
    expect(report.versions).toEqual(SUPPORTED_VERSIONS);
    expectInDocument(report);
  } finally {
    await lab.stop();
  }
});

/** Of Debian's plugins 1.1.1, whichever: the library that they stand on. */
const OF_ALL = {
  "VERSION lists the versions, in the version asked for": '5 × cniVersion is "1.0.0", want 0.1.0, as on input',
  "an error has the cniVersion of the configuration": "6 × the error's cniVersion is not set, want 0.1.0",
  "ADD passes prevResult on": "4 × the result has lost the interface and the address of prevResult",
};

test.each([
  [
    "ptp",
    {
      ...OF_ALL,
      // It adds the route to its gateway once more.
      "ADD gives a container a second interface": expect.stringMatching(
        /^6 × .*failed to add route.*file exists$/,
      ) as unknown,
    },
  ],
  ["bridge", OF_ALL],
] as const)(
  "Debian's %s fails what is known, and nothing of it stays on this machine",
  {
    timeout: TIMEOUT_MS,
  },
  async (plugin, expected) => {
    const file = join(dir, `${plugin}.conf`);
    const conf = { name: `conformance-${plugin}`, type: plugin, ...CONFS[plugin] };
    writeFileSync(file, JSON.stringify(conf));
    const argv = [...PROGRAM, "--json", "--plugin", `/usr/lib/cni/${plugin}`, "--conf", file];
    const result = await run(argv, { env: process.env });
    const report = parseReport(result);
    expect(complaintsOf(report)).toEqual(expected);
    expect(result.exitCode).toBe(1);
    expectInDocument(report);
    expect(existsSync(`/var/lib/cni/networks/${conf.name}`)).toBe(false);
    expect((await run(["ip", "link", "show", "cni9"])).exitCode).toBe(1);
  },
);

// SPDX-License-Identifier: Apache-2.0
// npm run conformance: the CNI specification as checks, for any plugin, in a sandbox that vanishes with the run.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { isSupportedVersion } from "../cni/input/versions.ts";
import { runConformance } from "../conformance/runner.ts";
import { isObject } from "../conformance/shapes.ts";
import { renderReasons, renderSummary, renderTable } from "../conformance/table.ts";
import type { Conf } from "../conformance/types.ts";
import { UsageError } from "../lab/errors.ts";
import { sandboxArgv } from "../lab/namespaces.ts";
import { PluginMachine } from "../lab/plugin-machine.ts";
import { describeError } from "../lib/errors.ts";

const USAGE = `The CNI specification as executable checks, for any plugin.

  npm run conformance -- --plugin PATH --conf FILE

  --plugin PATH    the plugin's program
  --conf FILE      a network configuration, or a list, of which the entry for the plugin is taken
  --version V      only this version of the specification (may be repeated); default: all that the plugin lists
  --args K=V;K=V   CNI_ARGS of every call
  --json           the results for programs
  --here           in the network of this process, for a plugin that needs an agent; default: in a sandbox

Exits 0 when no check failed, 1 when one did, 2 when nothing could be checked. The sandbox has empty folders /run and
/var/lib, so a plugin must not be in these.
`;

const OPTIONS = {
  plugin: { type: "string" },
  conf: { type: "string" },
  version: { type: "string", multiple: true },
  args: { type: "string" },
  json: { type: "boolean" },
  here: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

/** In the sandbox: what a plugin keeps on a machine shall not be kept on this one. */
const PREPARE = 'mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib; ip link set lo up; exec "$@"';

function readConf(file: string, plugin: string): Conf {
  const value: unknown = JSON.parse(readFileSync(file, "utf8"));
  const list =
    isObject(value) && Array.isArray(value["plugins"]) ? (value["plugins"] as readonly unknown[]) : undefined;
  const entry = list === undefined ? value : list.find((one) => isObject(one) && one["type"] === basename(plugin));
  if (!isObject(value) || !isObject(entry))
    throw new UsageError(`${file} is no network configuration for ${basename(plugin)}: want an object with its type`);
  const { name } = value;
  if (typeof name !== "string") throw new UsageError(`${file} has no name: a network configuration needs one`);
  const { cniVersion: _, ...rest } = entry;
  return { ...rest, name, type: basename(plugin) };
}

async function main(argv: string[]): Promise<number> {
  const { values } = parseArgs({ args: argv, options: OPTIONS });
  if (values.help === true) {
    process.stdout.write(USAGE);
    return 0;
  }
  if (values.plugin === undefined || values.conf === undefined)
    throw new UsageError("want --plugin PATH and --conf FILE. Try: npm run conformance -- --help");
  const [plugin, confFile] = [resolve(values.plugin), resolve(values.conf)];
  if (values.here !== true) {
    const sandbox = [...sandboxArgv({ rootless: process.getuid?.() !== 0 }), "sh", "-euc", PREPARE, "sh"];
    const [command = "", ...rest] = [...sandbox, process.execPath, fileURLToPath(import.meta.url), "--here", ...argv];
    const { status, error } = spawnSync(command, rest, { stdio: "inherit" });
    if (error !== undefined) throw error;
    return status ?? 2;
  }
  const versions = values.version;
  const unknown = versions?.find((version) => !isSupportedVersion(version));
  if (unknown !== undefined) throw new UsageError(`--version ${unknown} is none that is known here`);
  const report = await runConformance(new PluginMachine(plugin), {
    plugin: basename(plugin),
    conf: readConf(confFile, plugin),
    args: values.args ?? "",
    pluginPath: dirname(plugin),
    ...(versions !== undefined && { versions: versions.filter(isSupportedVersion) }),
  });
  if (values.json === true) process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
  else process.stdout.write(`${renderTable(report)}\n${renderReasons(report)}\n${renderSummary(report)}`);
  return report.results.some(({ outcome }) => outcome === "fail") ? 1 : 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`conformance: ${describeError(error)}\n`);
  process.exitCode = 2;
}

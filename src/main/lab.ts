// SPDX-License-Identifier: Apache-2.0
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runCLI } from "../lab/cli.ts";
import { UsageError } from "../lab/errors.ts";
import { parseLabArgs } from "../lab/options.ts";
import type { SandboxConfig } from "../lab/sandbox-config.ts";
import { describeError } from "../lib/errors.ts";

const script = fileURLToPath(import.meta.url);
const argv = process.argv.slice(2);

/** The folder that holds package.json: this file is in dist/ or in src/main/. */
function findRoot(start: string): string {
  const parent = dirname(start);
  return existsSync(join(start, "package.json")) || parent === start ? start : findRoot(parent);
}

/** The program runs itself in the sandbox, in pods and on nodes; these parts are loaded only there. */
async function main(): Promise<number | undefined> {
  if (argv[0] !== "internal") return runCLI(parseLabArgs(argv), { root: findRoot(script), script });
  if (argv[1] === "endpoint") {
    const { runEndpoint } = await import("../lab/endpoint.ts");
    await runEndpoint(argv.slice(2));
    return undefined;
  }
  const [{ runSandbox }, { connectKube }] = await Promise.all([
    import("../lab/sandbox.ts"),
    import("../lab/connect-kube.ts"),
  ]);
  // Written by openSession of the same build.
  await runSandbox(JSON.parse(argv[2] ?? "") as SandboxConfig, connectKube);
  return undefined;
}

try {
  const code = await main();
  if (code !== undefined) process.exitCode = code;
} catch (error) {
  process.stderr.write(`lab: ${describeError(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}

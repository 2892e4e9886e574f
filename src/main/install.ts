// SPDX-License-Identifier: Apache-2.0
// gingham-install: puts Gingham's programs where the container runtime executes plugins. The agent's init container, and for
// machines without Kubernetes a command.
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkLauncher } from "../install/check-launcher.ts";
import { installerUsage, parseInstallerConfig } from "../install/installer-config.ts";
import { installPrograms, ownPrograms } from "../install/programs.ts";
import { describeError } from "../lib/errors.ts";
import { answerVersion } from "../lib/version.ts";

answerVersion("gingham-install");
if (process.argv.includes("--help")) {
  process.stdout.write(installerUsage());
  process.exit(0);
}

async function main(): Promise<void> {
  const config = parseInstallerConfig({ args: process.argv.slice(2), env: process.env });
  const here = dirname(fileURLToPath(import.meta.url));
  const pluginsDir = config.pluginsDir ?? join(here, "plugins");
  const plugins = config.plugins.map((name) => ({ name, source: join(pluginsDir, name), kind: "plugin" }) as const);
  for (const { name, what } of await installPrograms({ ...config, programs: [...ownPrograms(here), ...plugins] }))
    process.stdout.write(
      `${join(config.binDir, name)}: ${what === "foreign" ? "another one is there, which stays" : what}\n`,
    );
  checkLauncher(config.binDir);
}

main().catch((error: unknown) => {
  process.stderr.write(`gingham-install: ${describeError(error)}\n`);
  process.exit(1);
});

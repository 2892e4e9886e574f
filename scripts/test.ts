// SPDX-License-Identifier: Apache-2.0
// Everything: the gate of `npm run check`, then the levels that change the network of namespaces of their own.
import { spawnSync } from "node:child_process";

if (process.getuid?.() !== 0) {
  process.stderr.write(
    "npm test needs root for its network namespaces (it changes nothing outside of them): run it as root, " +
      "or run `npm run check` for the tests that need nothing\n",
  );
  process.exit(1);
}

for (const argv of [
  ["scripts/check.ts"],
  ...["netns", "conformance", "e2e"].map((level) => ["node_modules/vitest/vitest.mjs", "run", "--project", level]),
]) {
  process.stdout.write(`\n== ${argv.join(" ")}\n`);
  const { status } = spawnSync(process.execPath, argv, { stdio: "inherit" });
  if (status !== 0) process.exitCode = 1;
}

// SPDX-License-Identifier: Apache-2.0
// gingham: the command for people. `kubectl gingham` is the same program under the name kubectl-gingham.
import { COMMANDS } from "../cli/commands.ts";
import { runCLI } from "../cli/run.ts";
import { systemClock as clock } from "../lib/system-clock.ts";
import { answerVersion } from "../lib/version.ts";

answerVersion("gingham");
const { env, stdin, stdout, stderr } = process;

// `gingham ipam show | head` closes the pipe early: that is no error.
stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 2));

const status = await runCLI(process.argv.slice(2), COMMANDS, {
  env,
  stdout,
  stderr,
  clock,
  connect: async (flag) => {
    const { connectCluster, findKubeConfig } = await import("../cli/connect.ts");
    return await connectCluster(findKubeConfig(flag, env), env, clock);
  },
  confirm: async (question) => {
    if (!stdin.isTTY || !stderr.isTTY) return false;
    const { createInterface } = await import("node:readline/promises");
    const terminal = createInterface({ input: stdin, output: stderr });
    const answer = await terminal.question(`${question} [y/N] `);
    terminal.close();
    return /^y(es)?$/i.test(answer.trim());
  },
});

// Kept connections must not keep the process; what was written to a pipe must be out first.
stdout.write("", () => process.exit(status));

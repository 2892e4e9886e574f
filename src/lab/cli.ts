// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describeError } from "../lib/errors.ts";
import { LabError } from "./errors.ts";
import { enterLabArgv, enterNodeArgv, enterPodArgv } from "./namespaces.ts";
import { type LabCommand, type LabOptions, USAGE } from "./options.ts";
import { KUBECONFIG_FILE } from "./sandbox-config.ts";
import { openSession } from "./session.ts";
import { describeLab, findRunningLab, openStateRoot, type RunningLab } from "./state.ts";

/** What the user typed, done. Resolves to the exit status. */
export async function runCLI(
  command: LabCommand,
  place: { readonly root: string; readonly script: string },
): Promise<number> {
  switch (command.kind) {
    case "help":
      process.stdout.write(USAGE);
      return 0;
    case "run":
      return runLab(command.options, place);
    case "shell":
      return enterTarget(findRunningLab(openStateRoot(), command.lab), command.target, command.command);
    case "kubectl":
      return runKubectl(findRunningLab(openStateRoot(), command.lab), command.args);
  }
}

async function runLab(options: LabOptions, place: { readonly root: string; readonly script: string }): Promise<number> {
  const session = await openSession({ mode: "tour", options, ...place });
  let isStopping = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    // A second Ctrl-C does not wait for anything.
    process.on(signal, () => {
      void session.stop(isStopping);
      isStopping = true;
    });
  }
  session.ready.catch((error: unknown) => {
    if (isStopping) return;
    const hint = options.keepOnFailure ? "lab: kept until Ctrl-C, with --keep-on-failure\n" : "";
    process.stderr.write(`lab: ${describeError(error)}\n${hint}`);
  });
  const code = await session.ended;
  if (isStopping) process.stdout.write("\nThe laboratory is gone.\n");
  return code;
}

/** Says which one, since it may be a forgotten one; not on stdout, which is the program's. */
function sayEntering(lab: RunningLab): void {
  process.stderr.write(`lab: entering laboratory ${describeLab(lab)}\n`);
}

function enterTarget(lab: RunningLab, name: string, command: readonly string[]): number {
  const { state } = lab;
  const target = state.targets[name];
  if (target === undefined)
    throw new LabError(
      "NoTarget",
      `There is no ${name} in the laboratory; there are ${Object.keys(state.targets).join(", ")}`,
    );
  sayEntering(lab);
  const { holderPid, netns } = target;
  return runInTerminal(
    [
      ...enterLabArgv(state.sandboxPid, state),
      ...(netns === undefined ? enterNodeArgv(holderPid) : enterPodArgv(holderPid, netns)),
      ...(command.length > 0 ? command : ["bash", "--norc", "-i"]),
    ],
    { PS1: `${name}# `, KUBECONFIG: "/etc/gingham/kubeconfig" },
  );
}

function runKubectl(lab: RunningLab, args: readonly string[]): number {
  sayEntering(lab);
  return runInTerminal(["kubectl", ...args], { KUBECONFIG: join(lab.dir, KUBECONFIG_FILE) });
}

function runInTerminal(argv: readonly string[], env: Readonly<Record<string, string>>): number {
  const [command = "", ...args] = argv;
  const { status, error } = spawnSync(command, args, { stdio: "inherit", env: { ...process.env, ...env } });
  if (error !== undefined)
    throw new LabError("CommandFailed", `Cannot run ${command}: ${error.message}`, { cause: error });
  return status ?? 1;
}

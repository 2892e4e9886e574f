// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { join } from "node:path";
import { CNIError, MissingPluginError } from "../errors.ts";
import type { Executed, Execution, PluginRunner } from "./types.ts";

export interface ExecPluginOptions {
  /**
   * Words before the plugin's path, such as `nsenter --target 1 --mount --` for an agent in a container: plugins, and
   * the files that they keep, are the host's. @default none
   */
  readonly prefix?: readonly string[];
  /** Where this process sees the file system that plugins are looked up in, such as `/proc/1/root`. @default none */
  readonly root?: string;
}

/** For an agent in a container, with hostPID. */
export const hostMounts: ExecPluginOptions = {
  prefix: ["nsenter", "--target", "1", "--mount", "--"],
  root: "/proc/1/root",
};

/** A result is a few kilobytes. */
const MAX_OUTPUT_BYTES = 1024 * 1024;

/**
 * Executes plugins as a runtime does: the first of that name in CNI_PATH.
 *
 * Each gets a process group of its own, so that what it starts is killed with it, and does not see this process's
 * environment, in which there may be credentials.
 */
export function execPlugins({ prefix = [], root = "" }: ExecPluginOptions = {}): PluginRunner {
  return {
    async run({ type, env, stdin }, signal) {
      const path = await findPlugin(type, env["CNI_PATH"] ?? "", root);
      signal.throwIfAborted();
      return await execute([...prefix, path], { type, env, stdin }, signal);
    },
  };
}

async function findPlugin(type: string, cniPath: string, root: string): Promise<string> {
  for (const folder of cniPath.split(":").filter((text) => text.startsWith("/"))) {
    const path = join(folder, type);
    // A link of the host's to an absolute path leads elsewhere under `root`; but the runtime's own folder is mounted here by its name.
    if ((await isProgram(`${root}${path}`)) || (root !== "" && (await isProgram(path)))) return path;
  }
  const what = `IPAM plugin ${type} is in no folder of CNI_PATH ${JSON.stringify(cniPath)}`;
  throw new MissingPluginError(`${what}; install it there, or correct ipam.type`);
}

async function isProgram(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    async () => (await stat(path)).isFile(),
    () => false,
  );
}

function execute(argv: readonly string[], { type, env, stdin }: Execution, signal: AbortSignal): Promise<Executed> {
  const [command = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      env: { PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin", ...env },
      cwd: "/",
      detached: true,
      stdio: "pipe",
    });
    const outputs = { stdout: "", stderr: "" };
    const kill = (): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
      } catch {
        // It has ended.
      }
    };
    const onAbort = (): void => {
      kill();
      reject(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => {
        outputs[name] += text;
        if (outputs[name].length > MAX_OUTPUT_BYTES) kill();
      });
    }
    // A plugin may end before it has read its input.
    child.stdin.on("error", () => {});
    child.stdin.end(stdin);
    child.once("error", (cause) => {
      signal.removeEventListener("abort", onAbort);
      reject(new CNIError("Delegate", `IPAM plugin ${type} cannot be started: ${cause.message}`, { cause }));
    });
    child.once("close", (exitCode) => {
      signal.removeEventListener("abort", onAbort);
      resolve({ exitCode, ...outputs });
    });
  });
}

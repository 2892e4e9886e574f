// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { CommandError } from "./errors.ts";

export interface RunOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: string;
  readonly signal?: AbortSignal;
}

export interface RunResult {
  /** 128 + signal number when a signal ended it, as shells say. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. An exit status other than 0 is a result, not an error; a program that is missing is 127. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [command = "", ...args] = argv;
  const child = spawn(command, args, {
    stdio: ["pipe", "pipe", "pipe"],
    ...(options.env === undefined ? {} : { env: { ...options.env } }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  // A program that ends without reading its input breaks the pipe; its exit status tells what there is to tell.
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  const failure: { error?: Error } = {};
  child.on("error", (error) => {
    failure.error = error;
  });
  const [code, signal] = (await once(child, "close").catch((error: Error) => {
    failure.error = error;
    return [127, null];
  })) as [number | null, NodeJS.Signals | null];
  options.signal?.throwIfAborted();
  const text = Buffer.concat(stderr).toString();
  return {
    exitCode: failure.error === undefined ? (code ?? 128 + (signal === null ? 0 : constants.signals[signal])) : 127,
    stdout: Buffer.concat(stdout).toString(),
    stderr: failure.error === undefined ? text : `${text}${failure.error.message}`,
  };
}

/** Runs a program that has to succeed and returns its stdout. @throws CommandError */
export async function runOk(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const { exitCode, stdout, stderr } = await run(argv, options);
  if (exitCode !== 0) throw new CommandError(argv, exitCode, stderr === "" ? stdout : stderr);
  return stdout;
}

/** Runs a `sh` script that stops at the first failure. @throws CommandError */
export function runScript(script: string, options: RunOptions = {}): Promise<string> {
  return runOk(["sh", "-euc", script], options);
}

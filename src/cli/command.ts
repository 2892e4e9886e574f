// SPDX-License-Identifier: Apache-2.0
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import type { KubeClient } from "../kube/api.ts";
import type { Clock } from "../lib/clock.ts";
import { UsageError } from "./errors.ts";
import type { Format } from "./output/format.ts";

/** Exit statuses of every command. */
export const EXIT = { ok: 0, problem: 1, error: 2 } as const;

/** Where text goes. */
export interface Sink {
  write(text: string): unknown;
  /** A terminal: colours, and questions, make sense. */
  readonly isTTY?: boolean | undefined;
}

/** What a command may use of the world. */
export interface CommandContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Sink;
  readonly stderr: Sink;
  /** Where words for people go: stdout, or stderr when stdout is for a program. */
  readonly people: Sink;
  readonly clock: Clock;
  readonly format: Format;
  /** True on a terminal, unless NO_COLOR is set. Source: no-color.org */
  readonly hasColor: boolean;
  /** A client for the cluster that --kubeconfig, KUBECONFIG or the pod names. @throws KubeConfigError */
  connect(): Promise<KubeClient>;
  /** Prints what was found: the table for people, or the data as JSON or YAML. */
  show(table: () => string, data: unknown): Promise<void>;
  /** Asks a person; false without a terminal. */
  confirm(question: string): Promise<boolean>;
}

/** Arguments of a command after the options that all have were taken out. */
export interface CommandArgs<T extends ParseArgsOptionsConfig> {
  readonly values: ReturnType<typeof parseArgs<{ options: T; allowPositionals: true; strict: true }>>["values"];
  readonly positionals: readonly string[];
}

/** One command, loaded when it is called. */
export interface Command {
  /** What --help prints, without the options that all commands have. */
  readonly usage: string;
  /** Resolves to the exit status. @throws UsageError */
  run(argv: readonly string[], context: CommandContext): Promise<number>;
}

/** A line of the table of commands. */
export interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<Command>;
}

/** Options of every command. */
export const GLOBAL_OPTIONS: {
  readonly kubeconfig: { readonly type: "string" };
  readonly output: { readonly type: "string"; readonly short: "o" };
  readonly help: { readonly type: "boolean"; readonly short: "h" };
} = {
  kubeconfig: { type: "string" },
  output: { type: "string", short: "o" },
  help: { type: "boolean", short: "h" },
};

/** Makes a command of its options (as node:util parseArgs takes them) and what it does. */
export function defineCommand<const T extends ParseArgsOptionsConfig>(definition: {
  readonly usage: string;
  readonly options: T;
  run(args: CommandArgs<T>, context: CommandContext): Promise<number>;
}): Command {
  const { usage, options } = definition;
  return {
    usage,
    run: async (argv, context) => {
      const all = { ...GLOBAL_OPTIONS, ...options };
      const { values, positionals } = parse(() =>
        parseArgs({ args: [...argv], options: all, allowPositionals: true, strict: true }),
      );
      // The command's own options are among all of them.
      return definition.run({ values: values as CommandArgs<T>["values"], positionals }, context);
    },
  };
}

function parse<R>(fn: () => R): R {
  try {
    return fn();
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

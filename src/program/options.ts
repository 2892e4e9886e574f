// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from "node:util";
import { ConfigError } from "../felix/errors.ts";

/** A flag with its environment variable. */
export interface ProgramOption {
  readonly env: string;
  readonly help: string;
  readonly fallback: string;
}

type Options = Readonly<Record<string, ProgramOption>>;

/** The values of a program's options. Errors: ConfigError, which names the option as it was given. */
export interface OptionReader<Name extends string> {
  /** A flag wins over its variable; an empty variable is one that a manifest left blank. */
  text(name: Name): string;
  required(name: Name, want: string): string;
  /** @param parse undefined for what it does not take */
  parsed<T>(name: Name, parse: (text: string) => T | undefined, want: string): T;
  integer(name: Name, min: number, max: number): number;
  boolean(name: Name): boolean;
  oneOf<T extends string>(name: Name, values: readonly T[]): T;
}

export interface ProgramInput {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** @throws ConfigError for a flag that is not known */
export function readOptions<O extends Options>(
  options: O,
  { args, env }: ProgramInput,
): OptionReader<keyof O & string> {
  type Name = keyof O & string;
  const flags = parseFlags(options, args);
  const optionOf = (name: Name): ProgramOption => options[name] as ProgramOption; // Names are those of the options.
  const text = (name: Name): string => flags[name] ?? (env[optionOf(name).env] || optionOf(name).fallback);
  const fail = (name: Name, want: string): never => {
    const { env: variable } = optionOf(name);
    const option = flags[name] === undefined && env[variable] ? variable : `--${name}`;
    throw new ConfigError(option, `got ${JSON.stringify(text(name))}, want ${want}`);
  };
  const oneOf = <T extends string>(name: Name, values: readonly T[], want = values.join(", ")): T =>
    values.find((value) => value === text(name).toLowerCase()) ?? fail(name, want);
  return {
    text,
    required: (name, want) => text(name) || fail(name, want),
    parsed: (name, parse, want) => parse(text(name)) ?? fail(name, want),
    oneOf: (name, values) => oneOf(name, values),
    boolean: (name) => oneOf(name, ["true", "false"], "true or false") === "true",
    integer: (name, min, max) => {
      const value = Number(text(name));
      if (/^\d{1,9}$/.test(text(name)) && value >= min && value <= max) return value;
      return fail(name, `a whole number from ${min} to ${max}`);
    },
  };
}

/** Text for --help. */
export function usageOf(program: string, options: Options): string {
  const lines = Object.entries(options).map(
    ([name, { env, help, fallback }]) =>
      `  ${`--${name}`.padEnd(24)}${env.padEnd(26)}${help}${fallback === "" ? "" : ` (default: ${fallback})`}`,
  );
  return `Usage: ${program} [options]\n\n  ${"flag".padEnd(24)}${"variable".padEnd(26)}meaning\n${lines.join("\n")}\n`;
}

function parseFlags(options: Options, args: readonly string[]): Readonly<Record<string, string | undefined>> {
  const types = Object.fromEntries(Object.keys(options).map((name) => [name, { type: "string" as const }]));
  // `--dry-run` alone is what people type.
  const given = args.map((arg) => (arg === "--dry-run" ? "--dry-run=true" : arg));
  try {
    return parseArgs({ args: given, options: types, strict: true, allowPositionals: false }).values;
  } catch (cause) {
    const known = Object.keys(options).map((name) => `--${name}`);
    throw new ConfigError(args.join(" "), `not understood; the options are ${known.join(", ")}`, cause);
  }
}

// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from "node:util";
import type { KubeClient } from "../kube/api.ts";
import type { Clock } from "../lib/clock.ts";
import { type CommandContext, type CommandEntry, EXIT, GLOBAL_OPTIONS, type Sink } from "./command.ts";
import { RefusedError, UsageError } from "./errors.ts";
import { FORMATS, type Format, serialize } from "./output/format.ts";

/** The process around the CLI, so that tests can be it. */
export interface World {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly clock: Clock;
  /** @param kubeconfig what --kubeconfig says. */
  connect(kubeconfig: string | undefined): Promise<KubeClient>;
  confirm(question: string): Promise<boolean>;
}

const OPTIONS_OF_ALL = `Options of all commands:
  --kubeconfig FILE         the cluster; else KUBECONFIG, ~/.kube/config, or the pod's service account
  -o, --output FORMAT       table (default), wide, json or yaml
  -h, --help                this text

Exit status: 0 all is well, 1 a problem was found or the command was refused, 2 wrong usage or no connection.
`;

/** What was typed, done. Resolves to the exit status; errors are told on stderr. */
export async function runCLI(
  argv: readonly string[],
  commands: readonly CommandEntry[],
  world: World,
): Promise<number> {
  try {
    return await dispatch(argv, commands, world);
  } catch (error) {
    // Loaded here, since only failures need it.
    const { explainError } = await import("./explain.ts");
    world.stderr.write(`gingham: ${explainError(error)}\n`);
    if (error instanceof UsageError) {
      const name = find(argv, commands)?.name;
      world.stderr.write(`Try: gingham ${name === undefined ? "" : `${name} `}--help\n`);
    }
    return error instanceof RefusedError ? EXIT.problem : EXIT.error;
  }
}

async function dispatch(argv: readonly string[], commands: readonly CommandEntry[], world: World): Promise<number> {
  const found = find(argv, commands);
  if (found === undefined) {
    const isHelp = argv.length === 0 || argv.some((arg) => arg === "--help" || arg === "-h" || arg === "help");
    const isGroup = argv.length === 1 && commands.some(({ name }) => name.startsWith(`${argv[0]} `));
    if (!isHelp && !isGroup) throw new UsageError(`There is no command ${JSON.stringify(argv.slice(0, 2).join(" "))}`);
    world.stdout.write(overview(commands));
    return argv.length === 0 || isGroup ? EXIT.error : EXIT.ok;
  }
  const command = await found.load();
  const rest = argv.slice(found.name.split(" ").length);
  const { values } = parseArgs({ args: rest, options: GLOBAL_OPTIONS, strict: false });
  if (values.help === true) {
    world.stdout.write(`${command.usage.trimEnd()}\n\n${OPTIONS_OF_ALL}`);
    return EXIT.ok;
  }
  return await command.run(rest, contextOf(values, world));
}

function find(argv: readonly string[], commands: readonly CommandEntry[]): CommandEntry | undefined {
  return commands.find(({ name }) => name.split(" ").every((word, i) => argv[i] === word));
}

function contextOf(values: Readonly<Record<string, unknown>>, world: World): CommandContext {
  const given = values["output"] ?? "table";
  const format = FORMATS.find((known) => known === given);
  if (format === undefined) throw new UsageError(`--output is ${JSON.stringify(given)}, want ${FORMATS.join(", ")}`);
  const kubeconfig = typeof values["kubeconfig"] === "string" ? values["kubeconfig"] : undefined;
  const { env, stdout, stderr, clock } = world;
  return {
    env,
    stdout,
    stderr,
    people: isForPeople(format) ? stdout : stderr,
    clock,
    format,
    hasColor: isForPeople(format) && stdout.isTTY === true && !env["NO_COLOR"],
    connect: () => world.connect(kubeconfig),
    show: async (table, data) => {
      stdout.write(format === "json" || format === "yaml" ? await serialize(data, format) : table());
    },
    confirm: (question) => world.confirm(question),
  };
}

function isForPeople(format: Format): boolean {
  return format === "table" || format === "wide";
}

function overview(commands: readonly CommandEntry[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  const lines = commands.map(({ name, summary }) => `  gingham ${name.padEnd(width)}  ${summary}\n`);
  return `Gingham's addresses, seen and mended. Also: kubectl gingham …\n\n${lines.join("")}
Details of a command: gingham ipam show --help\n\n${OPTIONS_OF_ALL}`;
}

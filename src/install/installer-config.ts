// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from "node:util";
import { InstallError } from "./errors.ts";

/** What `gingham-install` is told. */
export interface InstallerConfig {
  readonly binDir: string;
  readonly stateDir: string;
  /** Absent: the folder `plugins` beside the program itself. */
  readonly pluginsDir?: string;
  /** Which of the reference plugins; an empty list: none. */
  readonly plugins: readonly string[];
  readonly replacesOthers: boolean;
}

interface Option {
  readonly env: string;
  readonly help: string;
  readonly fallback: string;
}

/** Those that a network configuration of ours may name. `loopback` is for runtimes that are installed without one. */
const DEFAULT_PLUGINS = "loopback,portmap,bandwidth,tuning,host-local";

const OPTIONS = {
  "bin-dir": { env: "GINGHAM_CNI_BIN_DIR", help: "the runtime's folder of plugins", fallback: "/opt/cni/bin" },
  "state-dir": { env: "GINGHAM_STATE_DIR", help: "where it notes what it installed", fallback: "/var/lib/gingham" },
  plugins: {
    env: "GINGHAM_INSTALL_PLUGINS",
    help: "reference plugins, by name; All: of the network configuration; OursOnly: none, the host has them",
    fallback: "All",
  },
  "replace-plugins": {
    env: "GINGHAM_REPLACE_PLUGINS",
    help: "also those that somebody else has installed: on or off",
    fallback: "off",
  },
  "plugins-dir": { env: "GINGHAM_PLUGINS_DIR", help: "where these are (default: as shipped)", fallback: "" },
} as const satisfies Readonly<Record<string, Option>>;

type OptionName = keyof typeof OPTIONS;

/** Flags, then variables. @throws InstallError that names the option as it was given */
export function parseInstallerConfig(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): InstallerConfig {
  const flags = parseFlags(args);
  const read = <T>(name: OptionName, parse: (text: string, option: string) => T): T => {
    const flag = flags[name];
    if (flag !== undefined) return parse(flag, `--${name}`);
    const option: Option = OPTIONS[name];
    return parse(env[option.env] || option.fallback, env[option.env] ? option.env : `--${name}`);
  };
  const folder = (text: string, option: string): string => {
    if (text === "" || text.startsWith("/")) return text;
    throw new InstallError(`${option}: got ${JSON.stringify(text)}, want an absolute path`);
  };
  const pluginsDir = read("plugins-dir", folder);
  return {
    binDir: read("bin-dir", folder),
    stateDir: read("state-dir", folder),
    ...(pluginsDir !== "" && { pluginsDir }),
    plugins: read("plugins", pluginsOf),
    replacesOthers: read("replace-plugins", (text, option) => {
      if (text === "on" || text === "off") return text === "on";
      throw new InstallError(`${option}: got ${JSON.stringify(text)}, want on or off`);
    }),
  };
}

function pluginsOf(text: string, option: string): readonly string[] {
  if (text === "OursOnly") return [];
  const names = (text === "All" ? DEFAULT_PLUGINS : text).split(",").map((name) => name.trim());
  const wrong = names.find((name) => !/^[\w.-]+$/.test(name) || name.startsWith("."));
  if (wrong === undefined) return names;
  throw new InstallError(
    `${option}: ${JSON.stringify(wrong)} is no name of a plugin; want All, OursOnly, or as ${DEFAULT_PLUGINS}`,
  );
}

/** Text for --help. */
export function installerUsage(): string {
  const rows = Object.entries<Option>(OPTIONS).map(([name, { env, help, fallback }]) => {
    const text = fallback === "" ? help : `${help} (default: ${fallback})`;
    return `  ${`--${name}`.padEnd(19)}${env.padEnd(25)}${text}\n`;
  });
  return `Usage: gingham-install [options]

Copies Gingham's launcher, and the reference plugins that its network configuration names, to where the container runtime looks for
plugins. What is there already and the same is left as it is; each file is replaced whole.

  ${"flag".padEnd(19)}${"variable".padEnd(25)}meaning
${rows.join("")}`;
}

function parseFlags(args: readonly string[]): Partial<Record<OptionName, string>> {
  const options = Object.fromEntries(Object.keys(OPTIONS).map((name) => [name, { type: "string" as const }]));
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values;
  } catch (cause) {
    const known = Object.keys(OPTIONS).map((name) => `--${name}`);
    throw new InstallError(
      `${args.join(" ")}: not understood; the options are ${known.join(", ")}, each with a value`,
      { cause },
    );
  }
}

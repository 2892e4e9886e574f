// SPDX-License-Identifier: Apache-2.0
import { type ProgramInput, type ProgramOption, readOptions, usageOf } from "../program/options.ts";

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

/** Those that a network configuration of ours may name. `loopback` is for runtimes that are installed without one. */
const ALL_PLUGINS = ["loopback", "portmap", "bandwidth", "tuning", "host-local"];

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
  "plugins-dir": { env: "GINGHAM_PLUGINS_DIR", help: "where these are; empty: as shipped", fallback: "" },
} as const satisfies Readonly<Record<string, ProgramOption>>;

/** Flags, then variables. @throws ConfigError that names the option as it was given */
export function parseInstallerConfig(input: ProgramInput): InstallerConfig {
  const options = readOptions(OPTIONS, input);
  const folder = (name: "bin-dir" | "state-dir" | "plugins-dir"): string =>
    options.parsed(name, (text) => (text.startsWith("/") ? text : undefined), "an absolute path");
  const pluginsDir = options.text("plugins-dir") === "" ? undefined : folder("plugins-dir");
  return {
    binDir: folder("bin-dir"),
    stateDir: folder("state-dir"),
    ...(pluginsDir !== undefined && { pluginsDir }),
    plugins: options.parsed("plugins", pluginsOf, `All, OursOnly, or names as ${ALL_PLUGINS.join()}`),
    replacesOthers: options.oneOf("replace-plugins", ["on", "off"]) === "on",
  };
}

function pluginsOf(text: string): readonly string[] | undefined {
  if (text === "All") return ALL_PLUGINS;
  if (text === "OursOnly") return [];
  const names = text.split(",").map((name) => name.trim());
  return names.every((name) => /^\w[\w.-]*$/.test(name)) ? names : undefined;
}

/** Text for --help. */
export function installerUsage(): string {
  return `${usageOf("gingham-install", OPTIONS)}
Copies Gingham's launcher, and the reference plugins that its network configuration names, to where the container runtime looks for
plugins. What is there already and the same is left as it is; each file is replaced whole.
`;
}

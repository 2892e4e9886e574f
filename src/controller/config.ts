// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from "node:util";
import { ConfigError } from "../felix/errors.ts";

/** Everything that the controller is told from outside. */
export interface ControllerConfig {
  /** Absent: the service account of the pod that the controller runs in. */
  readonly kubeconfig?: string;
  /** Who we are among those who want to lead: another one for each process. */
  readonly identity: string;
  readonly leaseNamespace: string;
  readonly metricsHost: string;
  /** 0: none are served. */
  readonly metricsPort: number;
  readonly isDryRun: boolean;
  readonly requestsPerSecond: number;
  readonly logLevel: "debug" | "info" | "warn" | "error" | "fatal";
}

interface Option {
  readonly env: string;
  readonly help: string;
  readonly fallback: string;
}

/** Flags, each with its environment variable. A flag wins. */
const OPTIONS = {
  kubeconfig: { env: "KUBECONFIG", help: "file that says where the API server is; empty: in-cluster", fallback: "" },
  identity: { env: "POD_NAME", help: "name of this process; empty: host name and pid", fallback: "" },
  "lease-namespace": { env: "GINGHAM_LEASE_NAMESPACE", help: "where its Lease lives", fallback: "kube-system" },
  "metrics-host": { env: "GINGHAM_METRICS_HOST", help: "address of /metrics", fallback: "0.0.0.0" },
  "metrics-port": { env: "GINGHAM_METRICS_PORT", help: "its port; 0: no metrics", fallback: "9094" },
  "dry-run": { env: "GINGHAM_DRY_RUN", help: "true: say what would be freed, free nothing", fallback: "false" },
  "requests-per-second": {
    env: "GINGHAM_RELEASE_RATE",
    help: "at most so many requests of releasing",
    fallback: "100",
  },
  "log-level": { env: "LOG_LEVEL", help: "debug, info, warn, error or fatal", fallback: "info" },
} as const satisfies Record<string, Option>;

type OptionName = keyof typeof OPTIONS;

const LEVELS = ["debug", "info", "warn", "error", "fatal"] as const;

/** @param fallbackIdentity used when none is given. @throws ConfigError which names the option as it was given */
export function parseControllerConfig(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  fallbackIdentity: string,
): ControllerConfig {
  const flags = parseFlags(args);
  const read = (name: OptionName): string => flags[name] ?? (env[OPTIONS[name].env] || OPTIONS[name].fallback);
  const fail = (name: OptionName, want: string): never => {
    const option = flags[name] === undefined && env[OPTIONS[name].env] ? OPTIONS[name].env : `--${name}`;
    throw new ConfigError(option, `got ${JSON.stringify(read(name))}, want ${want}`);
  };
  const integer = (name: OptionName, min: number, max: number): number => {
    const value = Number(read(name));
    if (/^\d{1,9}$/.test(read(name)) && value >= min && value <= max) return value;
    return fail(name, `a whole number from ${min} to ${max}`);
  };
  const kubeconfig = read("kubeconfig");
  const dryRun = read("dry-run").toLowerCase();
  if (dryRun !== "true" && dryRun !== "false") fail("dry-run", "true or false");
  return {
    ...(kubeconfig === "" ? {} : { kubeconfig }),
    identity: read("identity") || fallbackIdentity,
    leaseNamespace: read("lease-namespace"),
    metricsHost: read("metrics-host"),
    metricsPort: integer("metrics-port", 0, 65_535),
    isDryRun: dryRun === "true",
    requestsPerSecond: integer("requests-per-second", 1, 100_000),
    logLevel: LEVELS.find((level) => level === read("log-level").toLowerCase()) ?? fail("log-level", LEVELS.join(", ")),
  };
}

/** Text for --help. */
export function controllerUsage(): string {
  const lines = Object.entries<Option>(OPTIONS).map(
    ([name, { env, help, fallback }]) =>
      `  ${`--${name}`.padEnd(24)}${env.padEnd(26)}${help}${fallback === "" ? "" : ` (default: ${fallback})`}`,
  );
  return `Usage: gingham-controller [options]\n\n  ${"flag".padEnd(24)}${"variable".padEnd(26)}meaning\n${lines.join("\n")}\n`;
}

function parseFlags(args: readonly string[]): Partial<Record<OptionName, string>> {
  const options = Object.fromEntries(Object.keys(OPTIONS).map((name) => [name, { type: "string" as const }]));
  // `--dry-run` alone is what people type.
  const given = args.map((arg) => (arg === "--dry-run" ? "--dry-run=true" : arg));
  try {
    return parseArgs({ args: given, options, strict: true, allowPositionals: false }).values;
  } catch (cause) {
    const known = Object.keys(OPTIONS).map((name) => `--${name}`);
    throw new ConfigError(args.join(" "), `not understood; the options are ${known.join(", ")}`, cause);
  }
}

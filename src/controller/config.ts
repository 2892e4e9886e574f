// SPDX-License-Identifier: Apache-2.0
import { type ProgramOption, readOptions, usageOf } from "./options.ts";

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
} as const satisfies Readonly<Record<string, ProgramOption>>;

export const LOG_LEVELS = ["debug", "info", "warn", "error", "fatal"] as const;

/** @param fallbackIdentity used when none is given. @throws ConfigError which names the option as it was given */
export function parseControllerConfig(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  fallbackIdentity: string,
): ControllerConfig {
  const options = readOptions(OPTIONS, { args, env });
  const kubeconfig = options.text("kubeconfig");
  return {
    ...(kubeconfig === "" ? {} : { kubeconfig }),
    identity: options.text("identity") || fallbackIdentity,
    leaseNamespace: options.text("lease-namespace"),
    metricsHost: options.text("metrics-host"),
    metricsPort: options.integer("metrics-port", 0, 65_535),
    isDryRun: options.boolean("dry-run"),
    requestsPerSecond: options.integer("requests-per-second", 1, 100_000),
    logLevel: options.oneOf("log-level", LOG_LEVELS),
  };
}

/** Text for --help. */
export function controllerUsage(): string {
  return usageOf("gingham-controller", OPTIONS);
}

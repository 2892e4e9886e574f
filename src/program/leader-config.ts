// SPDX-License-Identifier: Apache-2.0
import type { OptionReader, ProgramOption } from "./options.ts";

/** What every program for the whole cluster, of which one leads, is told from outside. */
export interface LeaderConfig {
  /** Absent: the service account of the pod that it runs in. */
  readonly kubeconfig?: string;
  /** Who it is among those who want to lead: another one for each process. */
  readonly identity: string;
  readonly leaseNamespace: string;
  readonly metricsHost: string;
  /** 0: none are served. */
  readonly metricsPort: number;
  readonly logLevel: (typeof LOG_LEVELS)[number];
}

const LOG_LEVELS = ["debug", "info", "warn", "error", "fatal"] as const;

const TARGET_OPTIONS = {
  kubeconfig: { env: "KUBECONFIG", help: "file that says where the API server is; empty: in-cluster", fallback: "" },
  identity: { env: "POD_NAME", help: "name of this process; empty: host name and pid", fallback: "" },
} as const;

type LeaderOptionName = keyof typeof TARGET_OPTIONS | "lease-namespace" | "metrics-host" | "metrics-port" | "log-level";

export interface LeaderDefaults {
  readonly leaseNamespace: string;
  readonly metricsPort: number;
}

/** Flags, each with its environment variable: of all such programs, around those of this one. */
export function leaderOptions<Own extends Readonly<Record<string, ProgramOption>>>(
  { leaseNamespace, metricsPort }: LeaderDefaults,
  own: Own,
): Readonly<Record<LeaderOptionName, ProgramOption>> & Own {
  return {
    ...TARGET_OPTIONS,
    "lease-namespace": { env: "GINGHAM_LEASE_NAMESPACE", help: "where its Lease lives", fallback: leaseNamespace },
    "metrics-host": { env: "GINGHAM_METRICS_HOST", help: "address of /metrics", fallback: "0.0.0.0" },
    "metrics-port": {
      env: "GINGHAM_METRICS_PORT",
      help: "its port; 0: no metrics",
      fallback: String(metricsPort),
    },
    ...own,
    "log-level": { env: "LOG_LEVEL", help: LOG_LEVELS.join(", "), fallback: "info" },
  };
}

/** @param fallbackIdentity used when none is given. @throws ConfigError which names the option as it was given */
export function readLeaderConfig(options: OptionReader<LeaderOptionName>, fallbackIdentity: string): LeaderConfig {
  const kubeconfig = options.text("kubeconfig");
  return {
    ...(kubeconfig === "" ? {} : { kubeconfig }),
    identity: options.text("identity") || fallbackIdentity,
    leaseNamespace: options.text("lease-namespace"),
    metricsHost: options.text("metrics-host"),
    metricsPort: options.integer("metrics-port", 0, 65_535),
    logLevel: options.oneOf("log-level", LOG_LEVELS),
  };
}

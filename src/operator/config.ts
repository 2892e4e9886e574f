// SPDX-License-Identifier: Apache-2.0
import { LOG_LEVELS } from "../controller/config.ts";
import { type ProgramOption, readOptions, usageOf } from "../controller/options.ts";
import { OPERATOR_METRICS_PORT } from "./render/controller.ts";
import { NAMESPACE } from "./render/names.ts";

/** Everything that the operator is told from outside. */
export interface OperatorConfig {
  /** Absent: the service account of the pod that the operator runs in. */
  readonly kubeconfig?: string;
  /** Who we are among those who want to lead: another one for each process. */
  readonly identity: string;
  readonly leaseNamespace: string;
  /** Of agents and controller, unless the Installation names another registry. */
  readonly image: string;
  readonly metricsHost: string;
  /** 0: none are served. */
  readonly metricsPort: number;
  readonly logLevel: (typeof LOG_LEVELS)[number];
}

/** Flags, each with its environment variable. A flag wins. */
const OPTIONS = {
  kubeconfig: { env: "KUBECONFIG", help: "file that says where the API server is; empty: in-cluster", fallback: "" },
  identity: { env: "POD_NAME", help: "name of this process; empty: host name and pid", fallback: "" },
  "lease-namespace": { env: "GINGHAM_LEASE_NAMESPACE", help: "where its Lease lives", fallback: NAMESPACE },
  image: { env: "GINGHAM_IMAGE", help: "image of what is installed; needed", fallback: "" },
  "metrics-host": { env: "GINGHAM_METRICS_HOST", help: "address of /metrics", fallback: "0.0.0.0" },
  "metrics-port": {
    env: "GINGHAM_METRICS_PORT",
    help: "its port; 0: no metrics",
    fallback: String(OPERATOR_METRICS_PORT),
  },
  "log-level": { env: "LOG_LEVEL", help: "debug, info, warn, error or fatal", fallback: "info" },
} as const satisfies Readonly<Record<string, ProgramOption>>;

/** @param fallbackIdentity used when none is given. @throws ConfigError which names the option as it was given */
export function parseOperatorConfig(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  fallbackIdentity: string,
): OperatorConfig {
  const options = readOptions(OPTIONS, { args, env });
  const kubeconfig = options.text("kubeconfig");
  return {
    ...(kubeconfig === "" ? {} : { kubeconfig }),
    identity: options.text("identity") || fallbackIdentity,
    leaseNamespace: options.text("lease-namespace"),
    image: options.required("image", "the image that agents are to have"),
    metricsHost: options.text("metrics-host"),
    metricsPort: options.integer("metrics-port", 0, 65_535),
    logLevel: options.oneOf("log-level", LOG_LEVELS),
  };
}

/** Text for --help. */
export function operatorUsage(): string {
  return usageOf("gingham-operator", OPTIONS);
}

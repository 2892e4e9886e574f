// SPDX-License-Identifier: Apache-2.0
import { type LeaderConfig, leaderOptions, readLeaderConfig } from "../program/leader-config.ts";
import { type ProgramInput, readOptions, usageOf } from "../program/options.ts";

/** Everything that the controller is told from outside. */
export interface ControllerConfig extends LeaderConfig {
  readonly isDryRun: boolean;
  readonly requestsPerSecond: number;
}

const OPTIONS = leaderOptions(
  { leaseNamespace: "kube-system", metricsPort: 9094 },
  {
    "dry-run": { env: "GINGHAM_DRY_RUN", help: "true: say what would be freed, free nothing", fallback: "false" },
    "requests-per-second": {
      env: "GINGHAM_RELEASE_RATE",
      help: "at most so many requests of releasing",
      fallback: "100",
    },
  },
);

/** A flag wins over its variable. @throws ConfigError which names the option as it was given */
export function parseControllerConfig(input: ProgramInput & { readonly fallbackIdentity: string }): ControllerConfig {
  const options = readOptions(OPTIONS, input);
  return {
    ...readLeaderConfig(options, input.fallbackIdentity),
    isDryRun: options.boolean("dry-run"),
    requestsPerSecond: options.integer("requests-per-second", 1, 100_000),
  };
}

/** Text for --help. */
export function controllerUsage(): string {
  return usageOf("gingham-controller", OPTIONS);
}

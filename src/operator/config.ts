// SPDX-License-Identifier: Apache-2.0
import { type LeaderConfig, leaderOptions, readLeaderConfig } from "../program/leader-config.ts";
import { type ProgramInput, readOptions, usageOf } from "../program/options.ts";
import { OPERATOR_METRICS_PORT } from "./render/controller.ts";
import { NAMESPACE, PULL_SECRET_NAMESPACE } from "./render/names.ts";

/** Everything that the operator is told from outside. */
export interface OperatorConfig extends LeaderConfig {
  /** Of agents and controller, unless the Installation names another registry. */
  readonly image: string;
  /** Where pull secrets are copied from that are not in our namespace. */
  readonly pullSecretNamespace: string;
}

const OPTIONS = leaderOptions(
  { leaseNamespace: NAMESPACE, metricsPort: OPERATOR_METRICS_PORT },
  {
    image: { env: "GINGHAM_IMAGE", help: "image of what is installed; needed", fallback: "" },
    "pull-secret-namespace": {
      env: "GINGHAM_PULL_SECRET_NAMESPACE",
      help: "where pull secrets are copied from",
      fallback: PULL_SECRET_NAMESPACE,
    },
  },
);

/** A flag wins over its variable. @throws ConfigError which names the option as it was given */
export function parseOperatorConfig(input: ProgramInput & { readonly fallbackIdentity: string }): OperatorConfig {
  const options = readOptions(OPTIONS, input);
  return {
    ...readLeaderConfig(options, input.fallbackIdentity),
    image: options.required("image", "the image that agents are to have"),
    pullSecretNamespace: options.text("pull-secret-namespace"),
  };
}

/** Text for --help. */
export function operatorUsage(): string {
  return usageOf("gingham-operator", OPTIONS);
}

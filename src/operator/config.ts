// SPDX-License-Identifier: Apache-2.0
import { type LeaderConfig, leaderOptions, readLeaderConfig } from "../program/leader-config.ts";
import { type ProgramInput, readOptions, usageOf } from "../program/options.ts";
import { OPERATOR_METRICS_PORT } from "./render/controller.ts";
import { NAMESPACE } from "./render/names.ts";

/** Everything that the operator is told from outside. */
export interface OperatorConfig extends LeaderConfig {
  /** Of agents and controller, unless the Installation names another registry. */
  readonly image: string;
}

const OPTIONS = leaderOptions(
  { leaseNamespace: NAMESPACE, metricsPort: OPERATOR_METRICS_PORT },
  { image: { env: "GINGHAM_IMAGE", help: "image of what is installed; needed", fallback: "" } },
);

/** A flag wins over its variable. @throws ConfigError which names the option as it was given */
export function parseOperatorConfig(input: ProgramInput & { readonly fallbackIdentity: string }): OperatorConfig {
  const options = readOptions(OPTIONS, input);
  return {
    ...readLeaderConfig(options, input.fallbackIdentity),
    image: options.required("image", "the image that agents are to have"),
  };
}

/** Text for --help. */
export function operatorUsage(): string {
  return usageOf("gingham-operator", OPTIONS);
}

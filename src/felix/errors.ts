// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../lib/errors.ts";

/** An option or environment variable of the agent that cannot be used. */
export class ConfigError extends GinghamError {
  /** As it was given: `--health-port`, or `FELIX_HEALTHPORT`. */
  readonly option: string;

  constructor(option: string, message: string, cause?: unknown) {
    super("Config", `${option}: ${message}`, cause === undefined ? undefined : { cause });
    this.option = option;
  }
}

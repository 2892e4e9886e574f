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

/** The kernel has no devices of a kind: neither built in nor as a module that can be loaded. */
export class KindUnsupportedError extends GinghamError {
  constructor(kind: string, cause: unknown) {
    super("KindUnsupported", `This kernel has no ${kind} devices`, { cause });
  }
}

/** By its code: errors lose their class on their way out of a worker thread. */
export function isKindUnsupported(error: unknown): boolean {
  return error instanceof GinghamError && error.code === "KindUnsupported";
}

/** A port of the agent's own that cannot be opened. */
export class ListenError extends GinghamError {
  constructor(host: string, port: number, cause: unknown) {
    super("Listen", `Cannot listen on ${host}:${port}: does another agent run here? Stop it, or set another port`, {
      cause,
    });
  }
}

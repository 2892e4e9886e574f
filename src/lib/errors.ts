// SPDX-License-Identifier: Apache-2.0
import { inspect } from "node:util";

/**
 * What every error class of the project has: a stable `code` for programs and a message for people.
 *
 * A message says what failed, on which object, with its current value, and what to do next; it has no full stop at the
 * end. Nothing ever matches on the text of a message.
 */
export class GinghamError extends Error {
  /** Stable, documented in docs/errors.md. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A broken invariant: the process must not go on. The agent exits and restarts into a resync. */
export class InvariantError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("Invariant", message, options);
  }
}

/** Text of anything thrown, with the chain of causes, for a log line or a CNI error's `details`. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let e: unknown = error; e !== undefined && parts.length < 6; e = e instanceof Error ? e.cause : undefined) {
    const text = e instanceof Error ? e.message : typeof e === "string" ? e : inspect(e);
    if (parts.at(-1) !== text) parts.push(text);
  }
  return parts.join(": ");
}

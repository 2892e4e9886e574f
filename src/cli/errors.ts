// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../lib/errors.ts";

/** What was typed makes no sense. Exit status 2. */
export class UsageError extends GinghamError {
  constructor(message: string) {
    super("Usage", message);
  }
}

/** The command would do harm, or cannot be done as asked; nothing was changed. Exit status 1. */
export class RefusedError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("CommandRefused", message, options);
  }
}

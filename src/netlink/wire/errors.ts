// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../../lib/errors.ts";

/** Bytes that are no well-formed rtnetlink message: truncated, misaligned, or a value that its field cannot have. */
export class DecodeError extends GinghamError {
  constructor(message: string, options?: ErrorOptions) {
    super("NetlinkDecode", message, options);
  }
}

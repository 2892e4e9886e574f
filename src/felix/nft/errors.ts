// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../../lib/errors.ts";

/** nft cannot be run, or the kernel refuses what it asks for. */
export class NftError extends GinghamError {
  constructor(message: string, cause?: unknown) {
    super("Nft", message, cause === undefined ? undefined : { cause });
  }
}

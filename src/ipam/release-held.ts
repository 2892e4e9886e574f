// SPDX-License-Identifier: Apache-2.0
import { checkedStore } from "./allocator/checked-store.ts";
import type { HeldAddress } from "./gc/types.ts";
import { type ReleaseTools, releaseAddresses } from "./release.ts";

/**
 * Frees one address of another node's if it is still this very assignment. A damaged block is left alone.
 *
 * Errors: IPAMError; then it may be freed or not.
 */
export async function releaseHeld(tools: ReleaseTools, held: HeldAddress): Promise<void> {
  const { errors } = await releaseAddresses({ ...tools, store: checkedStore(tools.store) }, [held]);
  // A handle that counts too much is harmless, but the caller tries again anyway, and then there is no error.
  if (errors.length > 0) throw errors[0];
}

// SPDX-License-Identifier: Apache-2.0
import type { ApiObject } from "./model.ts";

/** One stored object. Never changed: a write makes a new entry. */
export interface Entry {
  /** See `storageKey`. */
  readonly resource: string;
  /** `namespace/name`, or the name alone. */
  readonly key: string;
  readonly revision: number;
  readonly object: ApiObject;
  /** The object as it goes to disk, to clients and to watchers. */
  readonly text: string;
}

export interface StoreEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  /** For DELETED: the last state, under the resourceVersion of the removal. */
  readonly entry: Entry;
  /** The state before, by which a watch with a selector tells entering from leaving. */
  readonly previous: Entry | undefined;
}

// SPDX-License-Identifier: Apache-2.0
import type { AttachmentStore } from "../../../../src/cni/ports.ts";
import { fileRecordStore as realStore } from "../../../../src/cni/records/record-store.ts";
import { around } from "./points.ts";

/** The real store with a fault point at each write. */
export function fileRecordStore(root: string): AttachmentStore {
  const store = realStore(root);
  return {
    ...store,
    create: (id, record) => around(`record ${record.state}`, () => store.create(id, record)),
    append: (id, record) => around(`record ${record.state}`, () => store.append(id, record)),
    remove: (id) => around("record removed", () => store.remove(id)),
  };
}

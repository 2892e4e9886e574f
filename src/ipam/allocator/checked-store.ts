// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { damageOf } from "../check-block.ts";
import { IPAMError } from "../errors.ts";
import type { IPAMStore, StoredKind, StoredKinds } from "../ports.ts";

/**
 * The store, but a damaged block is as good as one that cannot be parsed: reading it rejects with `BrokenObject`, so
 * that nobody writes it. Pages hold damaged blocks, too, since their addresses are not free: look at `damageOf`.
 */
export function checkedStore(store: IPAMStore): IPAMStore {
  return {
    get: async <K extends StoredKind>(kind: K, name: string): Promise<StoredKinds[K] | undefined> => {
      const found = await store.get(kind, name);
      if (found !== undefined && isBlock(found)) refuseDamaged(found);
      return found;
    },
    pages: (kind) => store.pages(kind),
    create: (kind, object) => store.create(kind, object),
    update: (kind, object) => store.update(kind, object),
    delete: (kind, object) => store.delete(kind, object),
    updateBlockStatus: (block, status) => store.updateBlockStatus(block, status),
  };
}

function isBlock(object: StoredKinds[StoredKind]): object is IPAMBlock {
  return "allocations" in object.spec;
}

function refuseDamaged(block: IPAMBlock): void {
  const [first, ...more] = damageOf(block.spec);
  if (first === undefined) return;
  const { kind, ...where } = first;
  const others = more.length === 0 ? "" : ` and ${more.length} more findings`;
  const what = `IPAMBlock ${block.metadata.name} (${block.spec.cidr}) is damaged: ${kind} ${JSON.stringify(where)}${others}`;
  throw new IPAMError("BrokenObject", `${what}; it is left alone until it is corrected or deleted`);
}

// SPDX-License-Identifier: Apache-2.0
import type { IPAMBlock } from "../../crds/ipam-block.ts";
import { damageOf } from "../../ipam/check-block.ts";
import { heldAddresses, ownerOf } from "../../ipam/gc/addresses.ts";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import type { CNI } from "../commands/cni.ts";
import { handleIDOf } from "../iface-name.ts";
import type { AttachmentID } from "../types.ts";

/** Addresses of a block that attachments of this node hold, as far as the block tells. */
export function ownAddresses(cni: CNI, { spec, metadata }: IPAMBlock): readonly HeldAddress[] {
  // Whatever contradicts itself is for people to judge.
  if (damageOf(spec).length > 0) {
    cni.log.warn({ op: "collect", block: metadata.name }, "Block contradicts itself and is left alone");
    return [];
  }
  return heldAddresses(spec).filter((address) => {
    const owner = ownerOf(address);
    return (owner.kind === "pod" || owner.kind === "attachment") && owner.node === cni.host.nodeName;
  });
}

/** Handles of all attachments that have a record, in whatever state, or are being worked on. */
export async function knownHandles(cni: CNI): Promise<ReadonlySet<string>> {
  const handles = new Set<string>();
  const addDerived = (id: AttachmentID): void => {
    for (const handleID of possibleHandles(cni, id)) handles.add(handleID);
  };
  for (const key of cni.locks.keys()) {
    const id = parseKey(key);
    if (id !== undefined) addDerived(id);
  }
  for (const id of await cni.records.list()) {
    const stored = await cni.records.read(id);
    if (stored.kind === "record") handles.add(stored.record.handleID);
    // What cannot be read, or has just gone, may be anybody's of that name.
    else addDerived(id);
  }
  return handles;
}

/** Handles that an attachment may have, while nobody knows whether there is a pod behind it. */
export function possibleHandles(cni: CNI, id: AttachmentID): readonly string[] {
  const owner = { ...id, nodeName: cni.host.nodeName };
  // Only whether there is a pod matters to the handle.
  return [handleIDOf(owner), handleIDOf({ ...owner, pod: { namespace: "", name: "" } })];
}

/** The reverse of `keyOf`; undefined for a lock that is no attachment's. */
function parseKey(key: string): AttachmentID | undefined {
  const [, network, containerID, ifName] = /^([^/]+)\/(.+):([^:]+)$/.exec(key) ?? [];
  if (network === undefined || containerID === undefined || ifName === undefined) return undefined;
  return { network, containerID, ifName };
}

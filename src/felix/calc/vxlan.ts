// SPDX-License-Identifier: Apache-2.0
import { type Family, formatIP, type IP } from "../../net/ip.ts";
import type { MAC } from "../../net/mac.ts";
import type { Note } from "./findings.ts";
import { addressOf, type NodeAddresses } from "./node-addresses.ts";

/** VXLAN tunnel end point: where a node takes packets out of the tunnel. */
export interface VTEP {
  readonly node: string;
  /** The node's own address, to which the outer packets go. */
  readonly nodeIP: IP;
  readonly tunnelIP: IP;
  readonly mac: MAC;
}

/** What one family's VXLAN device should be able to reach. */
export interface VXLANNetwork {
  readonly family: Family;
  /** Undefined while this node has no tunnel address or no address: what is there stays as it is. */
  readonly local: VTEP | undefined;
  /** Shape: sorted by name of the node; no MAC and no tunnel address twice. */
  readonly peers: readonly VTEP[];
  readonly notes: readonly Note[];
}

/**
 * Collects the ends of all nodes. Depends only on its arguments' content.
 *
 * Two nodes with one MAC or tunnel address (an annotation that was copied) would take each other's packets in turn: the
 * first by name has it, so that all nodes agree.
 */
export function vxlanNetwork(family: Family, localNode: string, nodes: Iterable<NodeAddresses>): VXLANNetwork {
  const notes: Note[] = [];
  const owners = new Map<string, string>();
  let local: VTEP | undefined;
  const peers: VTEP[] = [];
  const all = [...nodes].flatMap((node) => vtepOf(node, family) ?? []);
  for (const vtep of all.toSorted((a, b) => (a.node < b.node ? -1 : 1))) {
    const keys = [vtep.mac, formatIP(vtep.tunnelIP)];
    const taken = keys.find((key) => owners.has(key));
    if (taken !== undefined) {
      const detail = `Nodes ${owners.get(taken)} and ${vtep.node} have the same VXLAN tunnel address or MAC; ${vtep.node} is left out, correct its annotations`;
      notes.push({ code: "DuplicateVTEP", subject: taken, detail });
      continue;
    }
    for (const key of keys) owners.set(key, vtep.node);
    if (vtep.node === localNode) local = vtep;
    else peers.push(vtep);
  }
  return { family, local, peers, notes };
}

export function vtepOf(node: NodeAddresses, family: Family): VTEP | undefined {
  const address = addressOf(node, family);
  const end = node.tunnelEnds[family];
  if (address === undefined || end === undefined) return undefined;
  return { node: node.name, nodeIP: address.ip, tunnelIP: end.ip, mac: end.mac };
}

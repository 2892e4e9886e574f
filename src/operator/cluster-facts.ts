// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../crds/core.ts";
import type { KubeObject } from "../crds/object.ts";
import { LINK_MTU_ANNOTATION } from "../felix/calc/node-status.ts";
import { type CIDR, cidrCovers, parseCIDR } from "../net/cidr.ts";
import { isNodeDown, isNodeReady, troubleOf } from "./node-conditions.ts";
import type { ClusterFacts, NodeFacts } from "./ports.ts";

/** What the operator looks at of a Node. */
export function nodeFacts(node: Node): NodeFacts {
  const { addresses = [] } = (node.status ?? {}) as { readonly addresses?: readonly { readonly address: string }[] };
  const trouble = troubleOf(node);
  const linkMTU = Number(node.metadata.annotations?.[LINK_MTU_ANNOTATION] ?? Number.NaN);
  return {
    name: node.metadata.name,
    isReady: isNodeReady(node),
    isDown: isNodeDown(node),
    ...(trouble !== "" && { trouble }),
    addresses: addresses.map(({ address }) => address),
    ...(Number.isInteger(linkMTU) && { linkMTU }),
  };
}

/** An IPAMBlock as it is: one that is damaged may be in use as well. */
export interface RawBlock extends KubeObject {
  readonly spec?: {
    readonly cidr?: string;
    readonly allocations?: readonly (number | null)[];
    readonly attributes?: readonly { readonly secondary?: Readonly<Record<string, string>> | null }[];
  };
}

export function cidrOfBlock({ spec = {} }: RawBlock): string {
  return spec.cidr ?? "";
}

/** What is no network is in none. */
export function isInside(text: string, networks: readonly CIDR[]): boolean {
  try {
    const cidr = parseCIDR(text);
    return networks.some((network) => cidrCovers(network, cidr));
  } catch {
    return false;
  }
}

/** How many addresses of a block are pods': those of tunnels are the agents' own. */
export function blockFacts({ spec = {} }: RawBlock): ClusterFacts["blocks"] {
  const { cidr, allocations = [], attributes = [] } = spec;
  const isPod = (index: number | null): boolean =>
    index !== null && !/TunnelAddress$/.test(attributes[index]?.secondary?.["type"] ?? "");
  try {
    return [{ cidr: parseCIDR(cidr ?? ""), pods: allocations.filter(isPod).length }];
  } catch {
    return []; // No network: it can be in no pool.
  }
}

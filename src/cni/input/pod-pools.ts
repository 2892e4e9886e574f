// SPDX-License-Identifier: Apache-2.0
import type { PoolNames } from "../../ipam/types.ts";
import type { Family } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";
import { type Annotated, readList } from "../fixed/annotations.ts";

/** Each holds a JSON list of names or CIDRs of IPPools. Source: calico-interop 3.7. */
export const POOL_ANNOTATIONS: { readonly [F in Family]: string } = {
  4: "cni.projectcalico.org/ipv4pools",
  6: "cni.projectcalico.org/ipv6pools",
};

/** Everybody who has a say in a pod's pools. */
export interface PoolWishes extends Annotated {
  /** The network configuration's. */
  readonly configured: PoolNames;
  /** What the pod gets an address of. */
  readonly families: readonly Family[];
}

/**
 * The pools that a pod is limited to: for each family the pod's annotation, else its namespace's, else the network
 * configuration's.
 *
 * @throws CNIError `InvalidNetworkConfig` for an annotation that is no list of names, or of a family that the pod does
 *   not get: whoever wrote it means something that will not happen.
 */
export function resolvePools(wishes: PoolWishes): PoolNames {
  return { 4: poolsOf(4, wishes), 6: poolsOf(6, wishes) };
}

function poolsOf(family: Family, wishes: PoolWishes): readonly string[] {
  const list = readList(wishes, POOL_ANNOTATIONS[family], { example: '["pool-a"]', onNamespace: true });
  if (list === undefined) return wishes.configured[family] ?? [];
  if (wishes.families.includes(family)) return list.items;
  const step = `remove the annotation, or set assign_ipv${family} in the network configuration`;
  throw new CNIError("InvalidNetworkConfig", `${list.what}, but pods here get no IPv${family} address; ${step}`);
}

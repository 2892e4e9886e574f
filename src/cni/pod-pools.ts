// SPDX-License-Identifier: Apache-2.0
import type { PoolNames } from "../ipam/types.ts";
import type { Family } from "../net/ip.ts";
import { CNIError } from "./errors.ts";
import type { PodRef } from "./types.ts";

/** Each holds a JSON list of names or CIDRs of IPPools. Source: calico-interop 3.7. */
export const POOL_ANNOTATIONS: { readonly [F in Family]: string } = {
  4: "cni.projectcalico.org/ipv4pools",
  6: "cni.projectcalico.org/ipv6pools",
};

type Annotations = Readonly<Record<string, string>>;

/** Everybody who has a say in a pod's pools. */
export interface PoolWishes {
  /** For messages; absent for a container that is no pod. */
  readonly pod?: PodRef;
  /** Absent when there is no pod, or nobody knows it. */
  readonly podAnnotations?: Annotations;
  readonly namespaceAnnotations?: Annotations;
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
  const { pod, podAnnotations, namespaceAnnotations, configured, families } = wishes;
  const key = POOL_ANNOTATIONS[family];
  const podText = podAnnotations?.[key];
  // Empty text is how Calico's tools take an annotation back.
  const [text, owner] = podText
    ? [podText, `Pod ${pod?.namespace}/${pod?.name}`]
    : [namespaceAnnotations?.[key], `Namespace ${pod?.namespace}`];
  if (!text) return configured[family] ?? [];
  const names = parseNames(text);
  const what = `${owner} has annotation ${key} with ${JSON.stringify(text)}`;
  if (names === undefined) {
    throw new CNIError("InvalidNetworkConfig", `${what}, want a JSON list of pools such as ["pool-a"]; correct it`);
  }
  if (!families.includes(family)) {
    const step = `remove the annotation, or set assign_ipv${family} in the network configuration`;
    throw new CNIError("InvalidNetworkConfig", `${what}, but pods here get no IPv${family} address; ${step}`);
  }
  return names;
}

function parseNames(text: string): readonly string[] | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) && value.every((name) => typeof name === "string") ? value : undefined;
  } catch {
    return undefined;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { CNIError } from "../errors.ts";
import { ANNOTATIONS, type Annotated } from "../fixed/annotations.ts";
import { POOL_ANNOTATIONS } from "../input/pod-pools.ts";

const NEED_OUR_IPAM = [ANNOTATIONS.addresses, ANNOTATIONS.families, POOL_ANNOTATIONS[4], POOL_ANNOTATIONS[6]];

/**
 * Refuses what a pod's annotations ask of its addresses when another IPAM plugin gives them. A namespace's are left: they
 * hold for its pods of other networks, too.
 *
 * @throws CNIError `InvalidNetworkConfig`
 */
export function refuseAddressWishes({ pod, podAnnotations = {} }: Annotated, ipamType: string): void {
  const key = NEED_OUR_IPAM.find((candidate) => podAnnotations[candidate]);
  if (key === undefined) return;
  const what = `Pod ${pod?.namespace}/${pod?.name} has annotation ${key} with ${JSON.stringify(podAnnotations[key])}`;
  const step = "remove the annotation, or use gingham-ipam";
  throw new CNIError("InvalidNetworkConfig", `${what}, but IPAM plugin ${ipamType} gives the addresses; ${step}`);
}

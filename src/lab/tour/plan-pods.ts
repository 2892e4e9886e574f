// SPDX-License-Identifier: Apache-2.0
import type { PodRequest } from "../types.ts";
import { LIMIT, LIMITED_POD } from "./bandwidth.ts";
import { HOST_PORT, WEB_POD } from "./host-port.ts";

/** The pods of the tour, dealt out to the nodes in turn: one has a host port, one a bandwidth limit. Pure. */
export function planPods(pods: number, nodes: readonly string[]): readonly PodRequest[] {
  return Array.from({ length: pods }, (_, i) => {
    const name = `pod-${i + 1}`;
    return {
      name,
      node: nodes[i % nodes.length] ?? "",
      ...(name === WEB_POD ? { hostPort: HOST_PORT } : {}),
      ...(name === LIMITED_POD ? { bandwidth: LIMIT } : {}),
    };
  });
}

// SPDX-License-Identifier: Apache-2.0
import { type EncapMode, IP_POOLS } from "../src/crds/ip-pool.ts";
import type { KubeClient } from "../src/kube/api.ts";
import { renderIPPool } from "../src/lab/cluster-objects.ts";

/** Number of the first block of the peers' own pool, as `blockCIDR` counts. */
export const PEER_BLOCKS = 32_768;

/** A pool out of which the bench's own node takes nothing: its blocks could be those that are given to peers. */
export async function createPeerPool(client: KubeClient, vxlanMode: EncapMode): Promise<void> {
  const { spec, ...pool } = renderIPPool(26);
  await client.create(IP_POOLS, {
    ...pool,
    metadata: { name: "peers" },
    spec: { ...spec, cidr: "10.96.0.0/12", vxlanMode, natOutgoing: false, nodeSelector: "!all()" },
  });
}

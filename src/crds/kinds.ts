// SPDX-License-Identifier: Apache-2.0
import { BLOCK_AFFINITY_KIND } from "./block-affinity.ts";
import { CLUSTER_INFORMATION_KIND } from "./cluster-information.ts";
import type { KindDefinition } from "./definition.ts";
import { FELIX_CONFIGURATION_KIND } from "./felix-configuration.ts";
import { INSTALLATION_KIND } from "./installation.ts";
import { IP_POOL_KIND } from "./ip-pool.ts";
import { IP_RESERVATION_KIND } from "./ip-reservation.ts";
import { IPAM_BLOCK_KIND } from "./ipam-block.ts";
import { IPAM_CONFIG_KIND } from "./ipam-config.ts";
import { IPAM_HANDLE_KIND } from "./ipam-handle.ts";
import { KUBE_CONTROLLERS_CONFIGURATION_KIND } from "./kube-controllers-configuration.ts";
import { TIGERA_STATUS_KIND } from "./tigera-status.ts";

/** What the operator is told by, and tells by. A cluster without the operator does not need them. */
export const OPERATOR_KINDS: readonly KindDefinition[] = [INSTALLATION_KIND, TIGERA_STATUS_KIND];

/** Every other kind that we define, in the order of their plurals; `renderCRD` makes a manifest of one. */
export const KINDS: readonly KindDefinition[] = [
  BLOCK_AFFINITY_KIND,
  CLUSTER_INFORMATION_KIND,
  FELIX_CONFIGURATION_KIND,
  IPAM_BLOCK_KIND,
  IPAM_CONFIG_KIND,
  IPAM_HANDLE_KIND,
  IP_POOL_KIND,
  IP_RESERVATION_KIND,
  KUBE_CONTROLLERS_CONFIGURATION_KIND,
];

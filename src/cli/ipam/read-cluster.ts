// SPDX-License-Identifier: Apache-2.0
import { projectNodeFacts, projectPodFacts } from "../../controller/projections.ts";
import { BLOCK_AFFINITIES } from "../../crds/block-affinity.ts";
import { CLUSTER_INFORMATION_NAME, CLUSTER_INFORMATIONS } from "../../crds/cluster-information.ts";
import { NODES, PODS, type Pod } from "../../crds/core.ts";
import type { InvalidObjectError } from "../../crds/errors.ts";
import { effectiveIPPool, IP_POOLS } from "../../crds/ip-pool.ts";
import { IP_RESERVATIONS } from "../../crds/ip-reservation.ts";
import { IPAM_BLOCKS } from "../../crds/ipam-block.ts";
import { IPAM_CONFIG_NAME, IPAM_CONFIGS } from "../../crds/ipam-config.ts";
import { IPAM_HANDLES } from "../../crds/ipam-handle.ts";
import type { KubeObject, Resource } from "../../crds/object.ts";
import type { AuditPod, Snapshot } from "../../ipam/audit/snapshot.ts";
import type { KubeClient } from "../../kube/api.ts";
import { NotFoundError } from "../../kube/errors.ts";
import type { Clock } from "../../lib/clock.ts";
import { formatIP, parseIP } from "../../net/ip.ts";

/** Objects in one answer: some hundred kilobytes of blocks or pods. */
const PAGE_SIZE = 500;
const TIMEOUT_MS = 60_000;

/** Kinds that not every question needs; the others are always read. */
export interface Wanted {
  readonly handles: boolean;
  /** Pods and nodes. */
  readonly owners: boolean;
}

/**
 * Reads the cluster's addresses, page by page: blocks first, so that a pod that is not there has not got its address
 * since. @throws KubeError
 */
export async function readCluster(client: KubeClient, clock: Clock, wanted: Wanted): Promise<Snapshot> {
  const invalid: InvalidObjectError[] = [];
  const all = async <T extends KubeObject, R>(resource: Resource<T>, project: (object: T) => R): Promise<R[]> => {
    const found: R[] = [];
    for await (const page of client.listPages(resource, { limit: PAGE_SIZE, timeoutMs: TIMEOUT_MS })) {
      invalid.push(...page.invalid);
      for (const object of page.items) found.push(project(object));
    }
    return found;
  };
  const same = <T>(object: T): T => object;
  const blocks = await all(IPAM_BLOCKS, same);
  const [handles, affinities, pools, reservations, nodes, pods, information, config] = await Promise.all([
    wanted.handles ? all(IPAM_HANDLES, same) : [],
    all(BLOCK_AFFINITIES, same),
    all(IP_POOLS, effectiveIPPool),
    // An old Calico does not have the kind.
    ifThere(all(IP_RESERVATIONS, same)),
    wanted.owners ? all(NODES, (node) => [node.metadata.name, projectNodeFacts(node)] as const) : [],
    wanted.owners ? all(PODS, auditPod) : [],
    ifThere(client.get(CLUSTER_INFORMATIONS, CLUSTER_INFORMATION_NAME)),
    ifThere(client.get(IPAM_CONFIGS, IPAM_CONFIG_NAME)),
  ]);
  return {
    takenMs: clock.nowMs(),
    blocks,
    handles,
    affinities,
    pools,
    reservations: reservations ?? [],
    nodes: new Map(nodes),
    pods: new Map(pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod])),
    invalid,
    ...(information !== undefined && { information: information.spec }),
    ...(config !== undefined && { config: config.spec }),
  };
}

async function ifThere<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

export function auditPod(pod: Pod): AuditPod {
  const { metadata, spec, status } = pod;
  return {
    ...projectPodFacts(pod),
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    hostNetwork: spec?.hostNetwork ?? false,
    reported: [...new Set([status?.podIP ?? "", ...(status?.podIPs ?? []).map(({ ip }) => ip)])].flatMap(canonical),
  };
}

function canonical(text: string): readonly string[] {
  try {
    return text === "" ? [] : [formatIP(parseIP(text))];
  } catch {
    return [];
  }
}

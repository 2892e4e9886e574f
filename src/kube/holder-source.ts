// SPDX-License-Identifier: Apache-2.0
import type { Holders, ReservationSource } from "../cni/fixed/ports.ts";
import { NODES, OUT_OF_SERVICE_TAINT, PODS } from "../crds/core.ts";
import { IP_RESERVATIONS, projectReservation } from "../crds/ip-reservation.ts";
import type { CallOptions, KubeClient } from "./api.ts";
import { NotFoundError } from "./errors.ts";
import { projectPod } from "./pod-source.ts";

/** Pods and nodes by one GET each: what the API server says at this moment. */
export function liveHolders(client: KubeClient): Pick<Holders, "pod" | "isOutOfService"> {
  const options = (signal: AbortSignal | undefined): CallOptions => ({ ...(signal && { signal }) });
  return {
    async pod(namespace, name, signal) {
      const pod = await found(client.get(PODS, name, { namespace, ...options(signal) }));
      return pod && projectPod(pod);
    },
    async isOutOfService(name, signal) {
      const node = await found(client.get(NODES, name, options(signal)));
      return node?.spec?.taints?.some(({ key }) => key === OUT_OF_SERVICE_TAINT) ?? false;
    },
  };
}

/** Reservations listed anew, for a process that ends with its request. */
export function reservationSource(client: KubeClient): ReservationSource {
  return {
    async owned(signal) {
      const { items } = await client.list(IP_RESERVATIONS, { ...(signal && { signal }) });
      return items.map(projectReservation).filter(({ owner }) => owner !== undefined);
    },
  };
}

async function found<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { PodAdopter } from "../../cni/adopt/adopter.ts";
import { listNamespaces } from "../../cni/adopt/netns-dir.ts";
import { WORKLOAD_IFACE_PREFIX } from "../../felix/ownership.ts";
import type { Base } from "./base.ts";

/** Takes over the pods that another plugin made, found among the host's links and the runtime's namespaces. */
export function makeAdopter({ kernel }: Base): PodAdopter {
  return new PodAdopter({
    podLinks: async () =>
      (await kernel.routes.listLinks()).filter(({ name }) => name.startsWith(WORKLOAD_IFACE_PREFIX)),
    namespaces: () => listNamespaces(),
  });
}

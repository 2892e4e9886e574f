// SPDX-License-Identifier: Apache-2.0
import type { KindDefinition } from "./definition.ts";
import { type Condition, conditionsSchema } from "./installation.ts";
import type { KubeObject, Resource } from "./object.ts";
import { object } from "./schema.ts";

/** How a component is. Source: calico-interop 6.2. */
export interface TigeraStatus extends KubeObject {
  readonly status?: { readonly conditions?: readonly Condition[] };
}

/** Ours; Tigera's operator has `calico`, `ippools` and others. */
export const TIGERA_STATUS_NAME = "gingham";

export const TIGERA_STATUSES: Resource<TigeraStatus> = {
  group: "operator.tigera.io",
  version: "v1",
  kind: "TigeraStatus",
  plural: "tigerastatuses",
  namespaced: false,
};

const statusOf = (type: string): string => `.status.conditions[?(@.type=="${type}")].status`;

export const TIGERA_STATUS_KIND: KindDefinition = {
  resource: TIGERA_STATUSES as Resource<KubeObject>,
  description: "How a component that an operator installs is doing.",
  spec: object({}),
  isSpecOptional: true,
  status: object({ conditions: conditionsSchema("Available, Progressing and Degraded.") }),
  statusSubresource: true,
  printerColumns: [
    { name: "Available", type: "string", jsonPath: statusOf("Available") },
    { name: "Progressing", type: "string", jsonPath: statusOf("Progressing") },
    { name: "Degraded", type: "string", jsonPath: statusOf("Degraded") },
    { name: "Since", type: "date", jsonPath: '.status.conditions[?(@.type=="Available")].lastTransitionTime' },
    { name: "Message", type: "string", jsonPath: '.status.conditions[?(@.type=="Available")].message' },
  ],
};

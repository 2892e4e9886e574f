// SPDX-License-Identifier: Apache-2.0
import type { KubeObject, Resource } from "./object.ts";

export interface IPAMHandleSpec {
  /** Original case; the object's name is this in lower case. */
  readonly handleID: string;
  /** Block CIDR to the number of its addresses that the handle holds (never less than the truth in the block). */
  readonly block: Readonly<Record<string, number>>;
  readonly deleted: boolean;
}

export interface IPAMHandle extends KubeObject {
  readonly spec: IPAMHandleSpec;
}

export const IPAM_HANDLES: Resource<IPAMHandle> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "IPAMHandle",
  plural: "ipamhandles",
  namespaced: false,
};

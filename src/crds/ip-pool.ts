// SPDX-License-Identifier: Apache-2.0
import type { KubeObject, Resource } from "./object.ts";

/** As stored. Readers apply the defaults of calico-interop 1.3; see `parseIPPool`. */
export interface IPPoolSpec {
  readonly cidr: string;
  readonly blockSize?: number;
  readonly ipipMode?: "Never" | "Always" | "CrossSubnet";
  readonly vxlanMode?: "Never" | "Always" | "CrossSubnet";
  readonly natOutgoing?: boolean;
  readonly disabled?: boolean;
  readonly disableBGPExport?: boolean;
  readonly nodeSelector?: string;
  readonly namespaceSelector?: string;
  readonly allowedUses?: readonly ("Workload" | "Tunnel" | "LoadBalancer")[];
  readonly assignmentMode?: "Automatic" | "Manual";
}

export interface IPPool extends KubeObject {
  readonly spec: IPPoolSpec;
  readonly status?: {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
}

export const IP_POOLS: Resource<IPPool> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "IPPool",
  plural: "ippools",
  namespaced: false,
};

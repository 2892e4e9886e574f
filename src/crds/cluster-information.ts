// SPDX-License-Identifier: Apache-2.0
import { AGE, type KindDefinition } from "./definition.ts";
import { openObject, present } from "./field-reader.ts";
import type { KubeObject, Resource } from "./object.ts";
import { boolean, object, string } from "./schema.ts";

/** The singleton's name. calicoctl and Calico's CNI refuse to work without this object. */
export const CLUSTER_INFORMATION_NAME = "default";

export interface ClusterInformationSpec {
  readonly clusterGUID?: string;
  readonly clusterType?: string;
  /** calicoctl refuses to work with another version than this; absent or empty suits every version. */
  readonly calicoVersion?: string;
  /** False while the datastore is locked for a migration: ADD, DEL and collection must refuse. */
  readonly datastoreReady?: boolean;
  readonly variant?: string;
}

export interface ClusterInformation extends KubeObject {
  readonly spec: ClusterInformationSpec;
}

/** @throws InvalidObjectError */
export function parseClusterInformation(raw: unknown): ClusterInformation {
  const { head, spec, status } = openObject("crd.projectcalico.org/v1", "ClusterInformation", raw);
  const known = present({
    clusterGUID: spec.optionalString("clusterGUID"),
    clusterType: spec.optionalString("clusterType"),
    calicoVersion: spec.optionalString("calicoVersion"),
    datastoreReady: spec.optionalBoolean("datastoreReady"),
    variant: spec.optionalString("variant"),
  });
  return { ...head, spec: { ...spec.unread(), ...known }, ...(status === undefined ? {} : { status }) };
}

export const CLUSTER_INFORMATIONS: Resource<ClusterInformation> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "ClusterInformation",
  plural: "clusterinformations",
  namespaced: false,
  parse: parseClusterInformation,
};

export const CLUSTER_INFORMATION_KIND: KindDefinition = {
  resource: CLUSTER_INFORMATIONS,
  description: "What the network knows of the cluster. Only the object named default counts.",
  spec: object({
    clusterGUID: string("Identity of the cluster."),
    clusterType: string("Where the cluster runs and who set it up."),
    calicoVersion: string("The version that calicoctl must have; empty suits every version."),
    datastoreReady: boolean("False while the datastore is locked: nothing may be assigned or released."),
    variant: string("Which variant of Calico is active."),
  }),
  printerColumns: [
    { name: "GUID", type: "string", jsonPath: ".spec.clusterGUID" },
    { name: "Type", type: "string", jsonPath: ".spec.clusterType" },
    { name: "Version", type: "string", jsonPath: ".spec.calicoVersion" },
    { name: "Ready", type: "boolean", jsonPath: ".spec.datastoreReady" },
    AGE,
  ],
};

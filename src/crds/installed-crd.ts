// SPDX-License-Identifier: Apache-2.0
import { IPAM_BLOCKS } from "./ipam-block.ts";
import type { KubeObject, Resource } from "./object.ts";

/** The part of a schema in which properties are looked for. */
export interface PropertySchema {
  readonly properties?: Readonly<Record<string, PropertySchema>>;
  readonly items?: PropertySchema;
}

/** What Gingham reads of an installed CRD. Source: Kubernetes API reference, apiextensions/v1. */
export interface InstalledCRD extends KubeObject {
  readonly spec: {
    readonly versions: readonly {
      readonly name: string;
      readonly served?: boolean;
      readonly additionalPrinterColumns?: readonly unknown[];
      readonly subresources?: { readonly status?: unknown };
      readonly schema?: { readonly openAPIV3Schema?: PropertySchema };
    }[];
  };
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

export const CUSTOM_RESOURCE_DEFINITIONS: Resource<InstalledCRD> = {
  group: "apiextensions.k8s.io",
  version: "v1",
  kind: "CustomResourceDefinition",
  plural: "customresourcedefinitions",
  namespaced: false,
};

/** Name of the CRD that says what blocks hold. */
export const IPAM_BLOCK_CRD_NAME: string = `${IPAM_BLOCKS.plural}.${IPAM_BLOCKS.group}`;

/**
 * Whether a block keeps `spec.attributes[].releasedAt` when it is written. A schema that does not name the field prunes
 * it, so it is not enough that unknown fields might be kept. Source: calico-interop 0, danger.
 */
export function declaresReleasedAt({ spec }: InstalledCRD): boolean {
  const version = spec.versions.find(({ name }) => name === IPAM_BLOCKS.version);
  const block = version?.schema?.openAPIV3Schema?.properties?.["spec"];
  return block?.properties?.["attributes"]?.items?.properties?.["releasedAt"] !== undefined;
}

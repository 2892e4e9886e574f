// SPDX-License-Identifier: Apache-2.0
import type { KubeObject, Resource } from "./object.ts";
import type { Schema } from "./schema.ts";

export interface PrinterColumn {
  readonly name: string;
  readonly type: "string" | "integer" | "boolean" | "date";
  readonly jsonPath: string;
  readonly description?: string;
  /** Columns with a priority above 0 show only with `-o wide`. */
  readonly priority?: number;
}

/** Everything that a CustomResourceDefinition says of one kind. */
export interface KindDefinition {
  readonly resource: Resource<KubeObject>;
  readonly description: string;
  readonly spec: Schema;
  /** An object without a spec is one, too. */
  readonly isSpecOptional?: boolean;
  readonly status?: Schema;
  /** Status has an endpoint of its own, and writes of the object leave it alone. */
  readonly statusSubresource?: boolean;
  readonly printerColumns: readonly PrinterColumn[];
  readonly selectableFields?: readonly string[];
}

export const AGE: PrinterColumn = { name: "Age", type: "date", jsonPath: ".metadata.creationTimestamp" };

/** Kubernetes' CustomResourceDefinition, as far as we fill it. */
export interface CustomResourceDefinition extends KubeObject {
  readonly spec: Readonly<Record<string, unknown>>;
}

/** Renders the manifest that `kubectl apply` takes. Source: apiextensions.k8s.io/v1. */
export function renderCRD(kind: KindDefinition): CustomResourceDefinition {
  const { resource } = kind;
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${resource.plural}.${resource.group}` },
    spec: {
      group: resource.group,
      names: {
        kind: resource.kind,
        listKind: `${resource.kind}List`,
        plural: resource.plural,
        singular: resource.kind.toLowerCase(),
      },
      scope: resource.namespaced ? "Namespaced" : "Cluster",
      versions: [
        {
          name: resource.version,
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              type: "object",
              description: kind.description,
              properties: {
                apiVersion: { type: "string" },
                kind: { type: "string" },
                metadata: { type: "object" },
                spec: kind.spec,
                ...(kind.status === undefined ? {} : { status: kind.status }),
              },
              ...(kind.isSpecOptional ? {} : { required: ["spec"] }),
            },
          },
          ...(kind.statusSubresource ? { subresources: { status: {} } } : {}),
          ...(kind.selectableFields
            ? { selectableFields: kind.selectableFields.map((jsonPath) => ({ jsonPath })) }
            : {}),
          additionalPrinterColumns: kind.printerColumns,
        },
      ],
    },
  };
}

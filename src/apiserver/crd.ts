// SPDX-License-Identifier: Apache-2.0
import { type Cause, invalid, type Named } from "./errors.ts";
import { compileJSONPath, textOf } from "./json-path.ts";
import { timestamp } from "./lifecycle.ts";
import { type ApiObject, isObject, type JsonObject } from "./model.ts";
import { invalidValue, required } from "./names.ts";
import type { Column, ResourceDef } from "./resource.ts";
import { compileSchema, type JSONSchema } from "./schema.ts";
import type { FieldReader } from "./selector.ts";
import { AGE_COLUMN, NAME_COLUMN } from "./table.ts";

export const CRD_GROUP = "apiextensions.k8s.io";
export const CRD_PLURAL = "customresourcedefinitions";

export function isCRD(def: { readonly group: string; readonly plural: string }): boolean {
  return def.group === CRD_GROUP && def.plural === CRD_PLURAL;
}

/** The part of a CustomResourceDefinition that is read here; its schema was checked before. */
interface CRDSpec {
  readonly group: string;
  readonly scope: string;
  readonly names: {
    readonly plural: string;
    readonly kind: string;
    readonly singular?: string;
    readonly listKind?: string;
    readonly shortNames?: readonly string[];
    readonly categories?: readonly string[];
  };
  readonly versions: readonly CRDVersion[];
}

interface CRDVersion {
  readonly name: string;
  readonly served: boolean;
  readonly storage: boolean;
  readonly schema?: { readonly openAPIV3Schema?: JSONSchema };
  readonly subresources?: { readonly status?: unknown };
  readonly additionalPrinterColumns?: readonly PrinterColumn[];
  readonly selectableFields?: readonly { readonly jsonPath: string }[];
}

interface PrinterColumn {
  readonly name: string;
  readonly type: string;
  readonly jsonPath: string;
  readonly format?: string;
  readonly description?: string;
  readonly priority?: number;
}

function specOf(crd: ApiObject): CRDSpec {
  // Validated against the CustomResourceDefinition's own schema before it is stored, and never changed after.
  return crd["spec"] as CRDSpec;
}

export function crdTarget(crd: ApiObject): Named {
  const { group, names } = specOf(crd);
  return { group, plural: names.plural, kind: names.kind };
}

/**
 * Refuses a definition that cannot be served and completes one that can, with the status that Kubernetes' controllers
 * would give it: here it is served as soon as it is stored.
 *
 * @throws StatusError 422.
 */
export function checkCRD(crd: ApiObject, old: ApiObject | undefined): void {
  const spec = specOf(crd);
  const named = { group: CRD_GROUP, plural: CRD_PLURAL, kind: "CustomResourceDefinition" };
  const causes = [...checkNames(crd.metadata.name, spec), ...checkVersions(spec)];
  if (causes.length > 0) throw invalid(named, crd.metadata.name, causes);
  const { names } = spec;
  const complete = { singular: names.kind.toLowerCase(), listKind: `${names.kind}List`, ...names };
  crd["spec"] = { ...spec, names: complete };
  crd["status"] = statusOf(crd, complete, old);
}

function checkNames(name: string, { group, names, scope }: CRDSpec): Cause[] {
  const causes: Cause[] = [];
  if (name !== `${names.plural}.${group}`) {
    causes.push(invalidValue("metadata.name", name, `must be spec.names.plural+"."+spec.group`));
  }
  if (group === "" || !group.includes(".")) {
    causes.push(invalidValue("spec.group", group, "should be a domain with at least one dot"));
  }
  if (scope !== "Cluster" && scope !== "Namespaced") {
    const message = `Unsupported value: ${JSON.stringify(scope)}: supported values: "Cluster", "Namespaced"`;
    causes.push({ reason: "FieldValueNotSupported", message, field: "spec.scope" });
  }
  return causes;
}

function checkVersions(spec: CRDSpec): Cause[] {
  const causes: Cause[] = [];
  if (spec.versions.filter((v) => v.storage).length !== 1) {
    causes.push(invalidValue("spec.versions", "", "must have exactly one version marked as storage version"));
  }
  spec.versions.forEach((version, i) => {
    const field = `spec.versions[${i}]`;
    const schema = version.schema?.openAPIV3Schema;
    if (schema === undefined)
      causes.push(required(`${field}.schema.openAPIV3Schema`, "Required value: schemas are required"));
    try {
      toResource(spec, version);
    } catch (error) {
      causes.push(invalidValue(field, version.name, error instanceof Error ? error.message : String(error)));
    }
  });
  return causes;
}

function statusOf(crd: ApiObject, acceptedNames: JsonObject, old: ApiObject | undefined): JsonObject {
  const since = crd.metadata.creationTimestamp ?? timestamp(0);
  const condition = (type: string, reason: string, message: string): JsonObject => ({
    type,
    status: "True",
    lastTransitionTime: since,
    reason,
    message,
  });
  const storage = specOf(crd)
    .versions.filter((v) => v.storage)
    .map((v) => v.name);
  const before = isObject(old?.["status"]) ? old["status"]["storedVersions"] : undefined;
  return {
    conditions: [
      condition("NamesAccepted", "NoConflicts", "no conflicts found"),
      condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ],
    acceptedNames,
    storedVersions: [...new Set([...(Array.isArray(before) ? before.map(textOf) : []), ...storage])],
  };
}

/** The resources that a definition makes served, one a version. */
export function resourcesOf(crd: ApiObject): ResourceDef[] {
  const spec = specOf(crd);
  return spec.versions.filter((v) => v.served).map((version) => toResource(spec, version));
}

function toResource(spec: CRDSpec, version: CRDVersion): ResourceDef {
  const { names, group } = spec;
  const schema = version.schema?.openAPIV3Schema ?? { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  const namespaced = spec.scope === "Namespaced";
  return {
    group,
    version: version.name,
    kind: names.kind,
    plural: names.plural,
    singular: names.singular ?? names.kind.toLowerCase(),
    shortNames: names.shortNames ?? [],
    categories: names.categories ?? [],
    namespaced,
    isBuiltin: false,
    nameRule: "subdomain",
    hasStatus: isObject(version.subresources?.status),
    allowsUnconditionalUpdate: false,
    columns: columnsOf(version.additionalPrinterColumns),
    selectableFields: fieldsOf(version, namespaced),
    schema,
    validate: compileSchema(schema),
  };
}

function fieldsOf(version: CRDVersion, namespaced: boolean): ReadonlyMap<string, FieldReader> {
  const fields = new Map<string, FieldReader>([["metadata.name", (o) => o.metadata.name]]);
  if (namespaced) fields.set("metadata.namespace", (o) => o.metadata.namespace ?? "");
  for (const { jsonPath } of version.selectableFields ?? []) {
    const read = compileJSONPath(jsonPath);
    fields.set(jsonPath.replace(/^\./, ""), (o) => textOf(read(o)[0]));
  }
  return fields;
}

function columnsOf(columns: readonly PrinterColumn[] | undefined): readonly Column[] {
  if (columns === undefined || columns.length === 0) return [NAME_COLUMN, AGE_COLUMN];
  return [NAME_COLUMN, ...columns.map(toColumn)];
}

const COLUMN_TYPES: readonly string[] = ["string", "integer", "number", "boolean", "date"] satisfies Column["type"][];

function toColumn({ name, type, jsonPath, format, description, priority }: PrinterColumn): Column {
  if (!isColumnType(type)) throw new TypeError(`printer column ${name} has the unsupported type "${type}"`);
  const read = compileJSONPath(jsonPath);
  // As kubectl's own printing: a text joins everything that the path finds, other types take the first.
  const cell = (object: ApiObject): unknown => {
    const found = read(object);
    if (found.length === 0) return undefined;
    return type === "string" ? found.map(textOf).join(" ") : found[0];
  };
  return {
    name,
    type,
    ...(format !== undefined && { format }),
    description: description ?? "",
    priority: priority ?? 0,
    cell,
  };
}

function isColumnType(type: string): type is Column["type"] {
  return COLUMN_TYPES.includes(type);
}

// SPDX-License-Identifier: Apache-2.0
import { checkCRD } from "../crd.ts";
import { textOf } from "../json-path.ts";
import { type ApiObject, isObject } from "../model.ts";
import type { NameRule, ResourceDef } from "../resource.ts";
import { compileSchema, type JSONSchema } from "../schema.ts";
import type { FieldReader } from "../selector.ts";
import { AGE_COLUMN, NAME_COLUMN } from "../table.ts";
import { at } from "./cells.ts";
import { BUILTIN_COLUMNS } from "./columns.ts";
import { expandType } from "./schemas.ts";

/** One line of the list below. */
interface Kind {
  readonly group: string;
  readonly kind: string;
  readonly plural: string;
  readonly short?: readonly string[];
  readonly scope: "namespaced" | "cluster";
  readonly hasStatus?: boolean;
  readonly nameRule?: NameRule;
  /** An update must carry the resourceVersion. */
  readonly mustCompare?: boolean;
  readonly isInAll?: boolean;
  readonly isReview?: boolean;
  readonly fields?: readonly string[];
  readonly prepareCreate?: (object: ApiObject) => void;
  readonly check?: ResourceDef["check"];
}

const EVENT_FIELDS = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];

const KINDS: readonly Kind[] = [
  {
    group: "",
    kind: "Namespace",
    plural: "namespaces",
    short: ["ns"],
    scope: "cluster",
    hasStatus: true,
    nameRule: "label",
    fields: ["status.phase"],
    prepareCreate: beginNamespace,
  },
  {
    group: "",
    kind: "Node",
    plural: "nodes",
    short: ["no"],
    scope: "cluster",
    hasStatus: true,
    fields: ["spec.unschedulable"],
  },
  {
    group: "",
    kind: "Pod",
    plural: "pods",
    short: ["po"],
    scope: "namespaced",
    hasStatus: true,
    isInAll: true,
    fields: [
      "spec.nodeName",
      "spec.restartPolicy",
      "spec.schedulerName",
      "spec.serviceAccountName",
      "spec.hostNetwork",
      "status.phase",
      "status.podIP",
      "status.nominatedNodeName",
    ],
    prepareCreate: beginPod,
  },
  {
    group: "",
    kind: "Service",
    plural: "services",
    short: ["svc"],
    scope: "namespaced",
    hasStatus: true,
    nameRule: "service",
    isInAll: true,
    fields: ["spec.clusterIP", "spec.type"],
  },
  { group: "", kind: "ConfigMap", plural: "configmaps", short: ["cm"], scope: "namespaced" },
  {
    group: "",
    kind: "Secret",
    plural: "secrets",
    scope: "namespaced",
    fields: ["type"],
    prepareCreate: encodeStringData,
    check: encodeStringData,
  },
  { group: "", kind: "ServiceAccount", plural: "serviceaccounts", short: ["sa"], scope: "namespaced" },
  {
    group: "",
    kind: "Event",
    plural: "events",
    short: ["ev"],
    scope: "namespaced",
    fields: ["type", "reason", "reportingComponent", "source", ...EVENT_FIELDS.map((f) => `involvedObject.${f}`)],
  },
  { group: "", kind: "Endpoints", plural: "endpoints", short: ["ep"], scope: "namespaced" },
  {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    short: ["deploy"],
    scope: "namespaced",
    hasStatus: true,
    isInAll: true,
  },
  {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    short: ["ds"],
    scope: "namespaced",
    hasStatus: true,
    isInAll: true,
  },
  {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    short: ["sts"],
    scope: "namespaced",
    hasStatus: true,
    isInAll: true,
  },
  {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    short: ["rs"],
    scope: "namespaced",
    hasStatus: true,
    isInAll: true,
  },
  { group: "coordination.k8s.io", kind: "Lease", plural: "leases", scope: "namespaced", mustCompare: true },
  { group: "rbac.authorization.k8s.io", kind: "Role", plural: "roles", scope: "namespaced", nameRule: "path" },
  {
    group: "rbac.authorization.k8s.io",
    kind: "RoleBinding",
    plural: "rolebindings",
    scope: "namespaced",
    nameRule: "path",
  },
  {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRole",
    plural: "clusterroles",
    scope: "cluster",
    nameRule: "path",
  },
  {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    scope: "cluster",
    nameRule: "path",
  },
  {
    group: "networking.k8s.io",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    short: ["netpol"],
    scope: "namespaced",
  },
  { group: "discovery.k8s.io", kind: "EndpointSlice", plural: "endpointslices", scope: "namespaced" },
  {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    short: ["pdb"],
    scope: "namespaced",
    hasStatus: true,
  },
  {
    group: "authorization.k8s.io",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    scope: "cluster",
    isReview: true,
  },
  {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    short: ["crd", "crds"],
    scope: "cluster",
    hasStatus: true,
    mustCompare: true,
    check: checkCRD,
  },
];

/** Kubernetes' own kinds, all in version v1. */
export function builtinResources(): ResourceDef[] {
  return KINDS.map((kind) => ({
    group: kind.group,
    version: "v1",
    kind: kind.kind,
    plural: kind.plural,
    singular: kind.kind.toLowerCase(),
    shortNames: kind.short ?? [],
    categories: kind.isInAll === true ? ["all"] : [],
    namespaced: kind.scope === "namespaced",
    isBuiltin: true,
    nameRule: kind.nameRule ?? "subdomain",
    isReview: kind.isReview ?? false,
    hasStatus: kind.hasStatus ?? false,
    allowsUnconditionalUpdate: kind.mustCompare !== true,
    columns: BUILTIN_COLUMNS[kind.plural] ?? [NAME_COLUMN, AGE_COLUMN],
    selectableFields: selectableFields(kind.fields ?? [], kind.scope === "namespaced"),
    ...lazySchema(kind.kind),
    ...(kind.prepareCreate !== undefined && { prepareCreate: kind.prepareCreate }),
    ...(kind.check !== undefined && { check: kind.check }),
  }));
}

/** A pod's schema has thousands of nodes; most servers never see most kinds. */
function lazySchema(type: string): Pick<ResourceDef, "schema" | "validate"> {
  let schema: JSONSchema | undefined;
  let compiled: ResourceDef["validate"] | undefined;
  const expanded = (): JSONSchema => {
    schema ??= withType(expandType(type));
    return schema;
  };
  return {
    get schema() {
      return expanded();
    },
    validate: (object) => {
      compiled ??= compileSchema(expanded(), true);
      return compiled(object);
    },
  };
}

function withType(schema: JSONSchema): JSONSchema {
  return { ...schema, properties: { apiVersion: { type: "string" }, kind: { type: "string" }, ...schema.properties } };
}

export function selectableFields(fields: readonly string[], namespaced: boolean): ReadonlyMap<string, FieldReader> {
  const readers = new Map<string, FieldReader>([["metadata.name", (o) => o.metadata.name]]);
  if (namespaced) readers.set("metadata.namespace", (o) => o.metadata.namespace ?? "");
  for (const field of fields) {
    const path = field.split(".");
    readers.set(field, (o) => textOf(at(o, ...path)));
  }
  return readers;
}

function beginNamespace(namespace: ApiObject): void {
  namespace["spec"] ??= { finalizers: ["kubernetes"] };
  namespace["status"] = { phase: "Active" };
  namespace.metadata.labels = { ...namespace.metadata.labels, "kubernetes.io/metadata.name": namespace.metadata.name };
}

/** A pod may come with its status, since there may be no kubelet here to report it. */
function beginPod(pod: ApiObject): void {
  const { status } = pod;
  pod["status"] = { phase: "Pending", ...(isObject(status) && status) };
}

/** Turns `stringData`, which is for writing only, into `data`. */
function encodeStringData(secret: ApiObject): void {
  const { stringData, data } = secret;
  if (!isObject(stringData)) return;
  const encoded = Object.entries(stringData).map(([key, text]) => [key, Buffer.from(textOf(text)).toString("base64")]);
  secret["data"] = { ...(isObject(data) && data), ...Object.fromEntries(encoded) };
  delete secret["stringData"];
}

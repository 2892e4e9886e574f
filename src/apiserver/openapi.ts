// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { COMPONENT_PREFIX, componentsOf } from "./builtin/schemas.ts";
import { VERSION } from "./discovery.ts";
import type { JsonObject } from "./model.ts";
import { apiVersionOf, type Registry, type ResourceDef } from "./resource.ts";
import type { JSONSchema } from "./schema.ts";

/** One group version, as the index calls it: `api/v1` or `apis/GROUP/VERSION`. */
function documentName(group: string, version: string): string {
  return group === "" ? `api/${version}` : `apis/${group}/${version}`;
}

/** Documents of OpenAPI v3, made when asked for and kept until a resource comes or goes. */
export class OpenAPI {
  readonly #registry: Registry;
  readonly #documents = new Map<string, { readonly text: string; readonly hash: string }>();
  #revision = -1;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** The answer to a path under `/openapi/v3`, or undefined when there is none. */
  document(path: string): { readonly text: string; readonly hash: string } | undefined {
    if (this.#revision !== this.#registry.revision) this.#documents.clear();
    this.#revision = this.#registry.revision;
    const name = path.replace(/^\/openapi\/v3\/?/, "");
    const known = this.#documents.get(name);
    if (known !== undefined) return known;
    const made = name === "" ? this.#index() : this.#groupVersion(name);
    if (made === undefined) return undefined;
    const text = JSON.stringify(made);
    const document = { text, hash: createHash("sha256").update(text).digest("hex").slice(0, 32).toUpperCase() };
    this.#documents.set(name, document);
    return document;
  }

  #names(): string[] {
    return [...this.#registry.groups()].flatMap(([group, versions]) => versions.map((v) => documentName(group, v)));
  }

  #index(): JsonObject {
    const paths = this.#names().map((name) => {
      const hash = this.document(`/openapi/v3/${name}`)?.hash ?? "";
      return [name, { serverRelativeURL: `/openapi/v3/${name}?hash=${hash}` }];
    });
    return { paths: Object.fromEntries(paths) };
  }

  #groupVersion(name: string): JsonObject | undefined {
    const parts = name.split("/");
    const [group = "", version = ""] = parts[0] === "api" ? ["", parts[1]] : [parts[1], parts[2]];
    const defs = this.#registry.inVersion(group, version);
    if (defs.length === 0 || name !== documentName(group, version)) return undefined;
    const paths = Object.fromEntries(defs.flatMap((def) => pathsOf(def, `/${name}`)));
    return {
      openapi: "3.0.0",
      info: { title: "Kubernetes", version: VERSION["gitVersion"] },
      paths,
      components: { schemas: schemasOf(defs) },
    };
  }
}

function schemasOf(defs: readonly ResourceDef[]): Record<string, unknown> {
  const components = new Map<string, JSONSchema>();
  componentsOf("ObjectMeta", components);
  for (const def of defs) if (def.isBuiltin) componentsOf(def.kind, components);
  const schemas: Record<string, unknown> = {};
  for (const [type, schema] of components) schemas[COMPONENT_PREFIX + type] = schema;
  for (const def of defs) {
    const name = componentName(def);
    schemas[name] = {
      ...(def.isBuiltin ? components.get(def.kind) : def.schema),
      properties: { ...(def.isBuiltin ? components.get(def.kind) : def.schema)?.properties, ...TYPE_FIELDS },
      "x-kubernetes-group-version-kind": [{ group: def.group, kind: def.kind, version: def.version }],
    };
  }
  return schemas;
}

const TYPE_FIELDS: Readonly<Record<string, JSONSchema>> = {
  apiVersion: { type: "string", description: "The versioned schema of this representation of an object." },
  kind: { type: "string", description: "The REST resource that this object represents." },
  metadata: {
    description: "Standard object's metadata.",
    allOf: [{ $ref: `#/components/schemas/${COMPONENT_PREFIX}ObjectMeta` }],
  },
};

function componentName(def: ResourceDef): string {
  if (def.isBuiltin) return COMPONENT_PREFIX + def.kind;
  return [...def.group.split(".").reverse(), def.version, def.kind].join(".");
}

const WRITE_PARAMETERS = ["dryRun", "fieldManager", "fieldValidation"].map(queryParameter);

function queryParameter(name: string): JsonObject {
  return { name, in: "query", schema: { type: "string", uniqueItems: true } };
}

function pathsOf(def: ResourceDef, root: string): [string, JsonObject][] {
  const collection = `${root}/${def.namespaced ? "namespaces/{namespace}/" : ""}${def.plural}`;
  const operation = (action: string, more: JsonObject = {}): JsonObject => ({
    tags: [apiVersionOf(def)],
    operationId: `${action}${def.kind}`,
    responses: { "200": { description: "OK", content: content(def) } },
    "x-kubernetes-action": action,
    "x-kubernetes-group-version-kind": { group: def.group, kind: def.kind, version: def.version },
    ...more,
  });
  const body = { requestBody: { required: true, content: content(def) }, parameters: WRITE_PARAMETERS };
  if (def.isReview === true) return [[collection, { post: operation("post", body) }]];
  const selectors = ["labelSelector", "fieldSelector", "limit", "continue", "resourceVersion"].map(queryParameter);
  const item = {
    get: operation("get"),
    put: operation("put", body),
    patch: operation("patch", { ...body, parameters: [...WRITE_PARAMETERS, queryParameter("force")] }),
    delete: operation("delete", { parameters: [queryParameter("dryRun")] }),
  };
  const { delete: _, ...status } = item;
  const paths: [string, JsonObject][] = [
    [collection, { get: operation("list", { parameters: selectors }), post: operation("post", body) }],
    [`${collection}/{name}`, item],
  ];
  if (def.hasStatus) paths.push([`${collection}/{name}/status`, status]);
  if (def.namespaced) paths.push([`${root}/${def.plural}`, { get: operation("list", { parameters: selectors }) }]);
  return paths;
}

function content(def: ResourceDef): JsonObject {
  return { "application/json": { schema: { $ref: `#/components/schemas/${componentName(def)}` } } };
}

/** Asked for with an @, which a media type must not have; answered with a dot, as kube-apiserver does. */
const PROTOBUF_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/**
 * OpenAPI v2, without any kind. kubectl falls back on it for manifests of kind List, whose items it then sends one by
 * one: without a document it gives up, without a kind in the document it leaves the checking to the server.
 */
export function openAPIv2(accept: string | undefined): { readonly text: string; readonly contentType: string } {
  const info = { title: "Kubernetes", version: String(VERSION["gitVersion"]) };
  if (accept?.includes("protobuf") !== true) {
    return { text: JSON.stringify({ swagger: "2.0", info, paths: {} }), contentType: "application/json" };
  }
  // Each field: number and wire type 2 (bytes), length, content. Source: gnostic, OpenAPIv2.proto, message Document.
  const field = (number: number, content: string): string =>
    String.fromCharCode((number << 3) | 2, content.length) + content;
  const text = field(1, "2.0") + field(2, field(1, info.title) + field(2, info.version)) + field(8, "");
  return { text, contentType: PROTOBUF_V2 };
}

// SPDX-License-Identifier: Apache-2.0
import { badRequest, methodNotAllowed, type Named, noSuchResource } from "./errors.ts";

export type Verb = "get" | "list" | "watch" | "create" | "update" | "patch" | "delete" | "deletecollection";

/** What a path names. Source: Kubernetes API concepts, Resource URIs. */
export interface ResourcePath {
  readonly group: string;
  readonly version: string;
  readonly namespace: string;
  readonly plural: string;
  readonly name: string;
  readonly subresource: string;
  /** The old form `/api/v1/watch/…`. */
  readonly isWatchPath: boolean;
}

/** Splits a path under `/api/v1/` or `/apis/G/V/`; undefined when it names no resource (discovery, or nothing). */
export function parseResourcePath(path: string): ResourcePath | undefined {
  const parts = path.split("/").slice(1).map(decode);
  if (parts.at(-1) === "") parts.pop();
  const root = parts.shift();
  const group = root === "api" ? "" : root === "apis" ? parts.shift() : undefined;
  const version = parts.shift();
  if (group === undefined || version === undefined || parts.length === 0 || parts.includes("")) return undefined;
  const isWatchPath = parts[0] === "watch";
  if (isWatchPath) parts.shift();
  let namespace = "";
  // `namespaces/x/pods` is a collection in a namespace; `namespaces/x` and `namespaces/x/status` are the namespace.
  if (parts[0] === "namespaces" && parts.length > 2 && !(group === "" && isNamespaceSubresource(parts[2]))) {
    namespace = parts[1] ?? "";
    parts.splice(0, 2);
  }
  const [plural, name, ...rest] = parts;
  if (plural === undefined || rest.length > 1) throw noSuchResource();
  return { group, version, namespace, plural, name: name ?? "", subresource: rest[0] ?? "", isWatchPath };
}

function isNamespaceSubresource(part: string | undefined): boolean {
  return part === "status" || part === "finalize";
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch (cause) {
    throw badRequest(`the path segment ${part} is not valid percent-encoding`, { cause });
  }
}

export function verbOf(method: string, path: ResourcePath, query: URLSearchParams): Verb {
  const isNamed = path.name !== "";
  switch (method) {
    case "GET":
    case "HEAD":
      if (path.isWatchPath || isTrue(query, "watch")) return "watch";
      return isNamed ? "get" : "list";
    case "POST":
      return "create";
    case "PUT":
      return "update";
    case "PATCH":
      return "patch";
    case "DELETE":
      return isNamed ? "delete" : "deletecollection";
    default:
      throw methodNotAllowed(undefined);
  }
}

/** Whether a verb fits a path: one creates in a collection and updates a named object. */
export function checkMethod(verb: Verb, path: ResourcePath, resource: Named): void {
  const needsName = verb === "update" || verb === "patch";
  if (verb === "create" ? path.name !== "" : needsName && path.name === "") throw methodNotAllowed(resource);
}

export function isTrue(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  return value !== null && value !== "false" && value !== "0";
}

/** A whole number from the query. @throws StatusError 400 */
export function numberFrom(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  if (!/^\d{1,15}$/.test(text)) throw badRequest(`invalid value "${text}" for ${name}: must be a whole number`);
  return Number(text);
}

/** What a client wants to read. */
export type Presentation =
  | { readonly kind: "object" }
  | { readonly kind: "table"; readonly include: "None" | "Metadata" | "Object" }
  | { readonly kind: "metadata" };

/** Reads the Accept header: the first form that this server has; JSON when it names none (protobuf is not served). */
export function presentationOf(accept: string | undefined, query: URLSearchParams): Presentation {
  if (accept === undefined || !accept.includes("as=")) return { kind: "object" };
  for (const range of accept.split(",")) {
    const [type, ...parameters] = range.split(";").map((p) => p.trim());
    if (type !== "application/json" && type !== "*/*") continue;
    const as = parameters.find((p) => p.startsWith("as="))?.slice(3);
    if (as === undefined) return { kind: "object" };
    if (as === "Table") return { kind: "table", include: includeOf(query.get("includeObject")) };
    if (as === "PartialObjectMetadata" || as === "PartialObjectMetadataList") return { kind: "metadata" };
  }
  return { kind: "object" };
}

function includeOf(text: string | null): "None" | "Metadata" | "Object" {
  if (text === null || text === "" || text === "Metadata") return "Metadata";
  if (text === "None" || text === "Object") return text;
  throw badRequest(`unrecognized includeObject value: "${text}"`);
}

// SPDX-License-Identifier: Apache-2.0
import { authorize, type Identity } from "./auth.ts";
import { textOf } from "./json-path.ts";
import { isObject, type JsonObject } from "./model.ts";
import type { Verb } from "./request.ts";
import type { Registry } from "./resource.ts";

const VERBS: readonly string[] = [
  "get",
  "list",
  "watch",
  "create",
  "update",
  "patch",
  "delete",
  "deletecollection",
] satisfies Verb[];

/** Answers whether the asking identity may do something. Source: authorization.k8s.io/v1 SelfSubjectAccessReview. */
export function answerReview(registry: Registry, identity: Identity, review: unknown): JsonObject {
  const spec = isObject(review) && isObject(review["spec"]) ? review["spec"] : {};
  const attributes = spec["resourceAttributes"];
  const allowed = identity.role === "admin" || (isObject(attributes) && mayDo(registry, identity, attributes));
  return {
    kind: "SelfSubjectAccessReview",
    apiVersion: "authorization.k8s.io/v1",
    metadata: { creationTimestamp: null },
    spec,
    status: { allowed, reason: `role ${identity.role}` },
  };
}

function mayDo(registry: Registry, identity: Identity, attributes: JsonObject): boolean {
  const read = (field: string): string => textOf(attributes[field]);
  const verb = read("verb");
  const [plural, group, version] = [read("resource"), read("group"), read("version") || "v1"];
  const def = registry.find(group, version, plural);
  if (!isVerb(verb) || def === undefined) return false;
  const path = {
    group,
    version,
    plural,
    namespace: read("namespace"),
    name: read("name"),
    subresource: read("subresource"),
    isWatchPath: false,
  };
  try {
    authorize(identity, verb, path, def);
    return true;
  } catch {
    return false;
  }
}

function isVerb(verb: string): verb is Verb {
  return VERBS.includes(verb);
}

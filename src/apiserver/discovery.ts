// SPDX-License-Identifier: Apache-2.0
import type { JsonObject } from "./model.ts";
import { apiVersionOf, type Registry, type ResourceDef } from "./resource.ts";

/** What `GET /version` says. kubectl picks the client of this minor version. */
export const VERSION: JsonObject = {
  major: "1",
  minor: "33",
  gitVersion: "v1.33.1+gingham",
  gitCommit: "",
  gitTreeState: "clean",
  buildDate: "1970-01-01T00:00:00Z",
  goVersion: `node ${process.version}`,
  compiler: "v8",
  platform: `${process.platform}/${process.arch === "x64" ? "amd64" : process.arch}`,
};

const VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const SUBRESOURCE_VERBS = ["get", "patch", "update"];

function verbsOf(def: ResourceDef): readonly string[] {
  return def.isReview === true ? ["create"] : VERBS;
}

/** The answer to a discovery path, or undefined when there is none. Source: Kubernetes API concepts, Discovery API. */
export function discoveryDocument(registry: Registry, path: string): JsonObject | undefined {
  const [root, group, version, ...rest] = path.split("/").filter((p) => p !== "");
  if (rest.length > 0) return undefined;
  if (root === "api") {
    if (group === undefined) return { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] };
    return version === undefined ? resourceList(registry, "", group) : undefined;
  }
  if (root !== "apis") return undefined;
  if (group === undefined) {
    const groups = [...registry.groups()]
      .filter(([name]) => name !== "")
      .map(([name, versions]) => toGroup(name, versions));
    return { kind: "APIGroupList", apiVersion: "v1", groups };
  }
  if (version !== undefined) return resourceList(registry, group, version);
  const versions = registry.groups().get(group);
  return versions === undefined ? undefined : { kind: "APIGroup", apiVersion: "v1", ...toGroup(group, versions) };
}

function toGroup(name: string, versions: readonly string[]): JsonObject {
  const entries = versions.map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions: entries, preferredVersion: entries[0] };
}

function resourceList(registry: Registry, group: string, version: string): JsonObject | undefined {
  if (!registry.hasVersion(group, version)) return undefined;
  const resources = registry.inVersion(group, version).flatMap((def) => {
    const base = { namespaced: def.namespaced, kind: def.kind };
    const main = {
      name: def.plural,
      singularName: def.singular,
      ...base,
      verbs: verbsOf(def),
      ...(def.shortNames.length > 0 && { shortNames: def.shortNames }),
      ...(def.categories.length > 0 && { categories: def.categories }),
    };
    return def.hasStatus
      ? [main, { name: `${def.plural}/status`, singularName: "", ...base, verbs: SUBRESOURCE_VERBS }]
      : [main];
  });
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion: apiVersionOf({ group, version }), resources };
}

/** The version of aggregated discovery that an Accept header asks for first. */
export function aggregatedVersion(accept: string | undefined): "v2" | "v2beta1" | undefined {
  for (const range of (accept ?? "").split(",")) {
    if (range.includes("as=APIGroupDiscoveryList")) return range.includes("v=v2beta1") ? "v2beta1" : "v2";
    if (/^\s*application\/json\s*(;\s*q=[\d.]+)?$/.test(range)) return undefined;
  }
  return undefined;
}

/** All of `/api` or of `/apis` in one document. Source: Kubernetes API concepts, Aggregated discovery. */
export function aggregatedDocument(registry: Registry, isCore: boolean, version: "v2" | "v2beta1"): JsonObject {
  const items = [...registry.groups()]
    .filter(([group]) => (group === "") === isCore)
    .map(([group, versions]) => ({
      metadata: group === "" ? { creationTimestamp: null } : { name: group, creationTimestamp: null },
      versions: versions.map((v) => ({
        version: v,
        resources: registry.inVersion(group, v).map(aggregatedResource),
        freshness: "Current",
      })),
    }));
  return { kind: "APIGroupDiscoveryList", apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items };
}

function aggregatedResource(def: ResourceDef): JsonObject {
  const responseKind = { group: def.group, version: def.version, kind: def.kind };
  return {
    resource: def.plural,
    responseKind,
    scope: def.namespaced ? "Namespaced" : "Cluster",
    singularResource: def.singular,
    verbs: verbsOf(def),
    ...(def.shortNames.length > 0 && { shortNames: def.shortNames }),
    ...(def.categories.length > 0 && { categories: def.categories }),
    ...(def.hasStatus && { subresources: [{ subresource: "status", responseKind, verbs: SUBRESOURCE_VERBS }] }),
  };
}

// SPDX-License-Identifier: Apache-2.0
import { forbidden, type Named, qualified } from "./errors.ts";
import type { ApiObject } from "./model.ts";
import { isObject } from "./model.ts";
import type { ResourcePath, Verb } from "./request.ts";

/** Who a token stands for. `node` is set for the role "node" only. */
export interface Identity {
  readonly token: string;
  readonly user: string;
  readonly role: "admin" | "node";
  readonly node?: string;
}

/** Identities that change while the server runs. */
export interface IdentitySource {
  /** Those of now, when they are others than at the last call. `isUrgent` asks to look at once, whatever it costs. */
  changed(isUrgent: boolean): readonly Identity[] | undefined;
}

/** Finds who sent a request by its bearer token. */
export class Authenticator {
  readonly #identities = new Map<string, Identity>();
  readonly #source: IdentitySource | undefined;
  #followed: ReadonlyMap<string, Identity> = new Map();

  constructor(identities: readonly Identity[], source?: IdentitySource) {
    for (const identity of identities) this.add(identity);
    this.#source = source;
  }

  add(identity: Identity): void {
    this.#identities.set(identity.token, identity);
  }

  identify(authorization: string | undefined): Identity | undefined {
    const token = /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
    if (token === undefined) return undefined;
    this.#follow(false);
    const known = this.#find(token);
    if (known !== undefined) return known;
    // A credential that has just been made must not wait for the next look.
    this.#follow(true);
    return this.#find(token);
  }

  #find(token: string): Identity | undefined {
    return this.#identities.get(token) ?? this.#followed.get(token);
  }

  #follow(isUrgent: boolean): void {
    const identities = this.#source?.changed(isUrgent);
    if (identities !== undefined) this.#followed = new Map(identities.map((identity) => [identity.token, identity]));
  }
}

const IPAM_GROUP = "crd.projectcalico.org";
const READ: ReadonlySet<Verb> = new Set<Verb>(["get", "list", "watch"]);
/** What a node allocates from: it writes these, all nodes' alike, as the allocation protocol wants. */
const IPAM_KINDS = new Set(["ipamblocks", "ipamhandles", "blockaffinities"]);
/** What a node reads of Kubernetes' own: to wire pods, to apply policy, and to see what the installed CRDs keep. */
const READABLE = new Set([
  "nodes",
  "pods",
  "namespaces",
  "services",
  "endpointslices.discovery.k8s.io",
  "networkpolicies.networking.k8s.io",
  "customresourcedefinitions.apiextensions.k8s.io",
]);
const LEASE_NAMESPACE = "kube-node-lease";

/** Set by the rules below where what is stored decides. @throws StatusError 403 */
export type Admission = (stored: ApiObject | undefined) => void;

/**
 * Says whether an identity may do this, and returns what is left to judge by the stored object.
 *
 * @throws StatusError 403, in Kubernetes' words.
 */
export function authorize(identity: Identity, verb: Verb, path: ResourcePath, resource: Named): Admission {
  if (identity.role === "admin") return admitAll;
  const verdict = judgeNode(identity.node ?? "", verb, path);
  if (verdict === "no") throw denied(identity, verb, path, resource);
  if (verdict === "yes") return admitAll;
  return (stored) => {
    const spec = stored?.["spec"];
    if (!isObject(spec) || spec["nodeName"] !== identity.node) throw denied(identity, verb, path, resource);
  };
}

function admitAll(): void {}

/** The role "node": its own Node, its own pods' status, and the addresses of the cluster. */
function judgeNode(node: string, verb: Verb, path: ResourcePath): "yes" | "no" | "own pods" {
  const { group, plural, name, namespace, subresource } = path;
  const isRead = READ.has(verb);
  // One object at a time: nothing that allocates ever empties a collection.
  if (group === IPAM_GROUP) return isRead || (IPAM_KINDS.has(plural) && verb !== "deletecollection") ? "yes" : "no";
  if (isRead && READABLE.has(qualified(path))) return "yes";
  if (group === "" && plural === "nodes") {
    const writesOwn = verb === "update" || verb === "patch" ? name === node : verb === "create";
    return writesOwn && (subresource === "" || subresource === "status") ? "yes" : "no";
  }
  if (group === "" && plural === "pods" && subresource === "status" && (verb === "patch" || verb === "update"))
    return "own pods";
  if (group === "coordination.k8s.io" && plural === "leases" && namespace === LEASE_NAMESPACE) {
    return verb === "create" || name === node ? "yes" : "no";
  }
  return plural === "selfsubjectaccessreviews" || plural === "selfsubjectreviews" ? "yes" : "no";
}

/** A create names its object in the body: a node creates its own Node and Lease only. @throws StatusError 403 */
export function authorizeCreate(identity: Identity, path: ResourcePath, resource: Named, object: unknown): void {
  if (identity.role === "admin" || (path.plural !== "nodes" && path.plural !== "leases")) return;
  const metadata = isObject(object) ? object["metadata"] : undefined;
  if (isObject(metadata) && metadata["name"] === identity.node) return;
  throw denied(identity, "create", path, resource);
}

function denied(identity: Identity, verb: Verb, path: ResourcePath, resource: Named): Error {
  const what = path.subresource === "" ? resource.plural : `${resource.plural}/${path.subresource}`;
  const where = path.namespace === "" ? "at the cluster scope" : `in the namespace "${path.namespace}"`;
  const why = `User "${identity.user}" cannot ${verb} resource "${what}" in API group "${resource.group}" ${where}`;
  return forbidden(resource, path.name, why);
}

// SPDX-License-Identifier: Apache-2.0
import { BLOCK_AFFINITIES } from "../crds/block-affinity.ts";
import { CLUSTER_INFORMATION_NAME, CLUSTER_INFORMATIONS } from "../crds/cluster-information.ts";
import { NODES, type Node, PODS } from "../crds/core.ts";
import { renderCRD } from "../crds/definition.ts";
import { INSTALLATIONS, type Installation } from "../crds/installation.ts";
import { CUSTOM_RESOURCE_DEFINITIONS, type InstalledCRD } from "../crds/installed-crd.ts";
import { IP_POOLS } from "../crds/ip-pool.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../crds/ipam-block.ts";
import { IPAM_HANDLES } from "../crds/ipam-handle.ts";
import { KINDS } from "../crds/kinds.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import { TIGERA_STATUSES } from "../crds/tigera-status.ts";
import { DAEMON_SETS, DEPLOYMENTS, SECRETS } from "../crds/workloads.ts";
import { LINK_MTU_ANNOTATION } from "../felix/calc/node-status.ts";
import type { KubeClient } from "../kube/api.ts";
import {
  ConflictError,
  ForbiddenError,
  InvalidError,
  KubeError,
  NotFoundError,
  RequestError,
  resourceName,
} from "../kube/errors.ts";
import { type CIDR, cidrCovers, parseCIDR } from "../net/cidr.ts";
import { agentPodOf, type KubePod } from "./agent-pod.ts";
import { MANAGER } from "./judge-pools.ts";
import type {
  ApplyOptions,
  ClusterFacts,
  ClusterPort,
  NodeFacts,
  Outcome,
  Questions,
  SeenFirst,
  Workloads,
} from "./ports.ts";
import { resourceOf } from "./render/manifest.ts";
import { AGENT, CONTROLLER, NAME_LABEL, NAMESPACE } from "./render/names.ts";

const PAGE_SIZE = 500;

/** The port over any Kubernetes API server. */
export class KubeCluster implements ClusterPort {
  readonly #client: KubeClient;

  constructor(client: KubeClient) {
    this.#client = client;
  }

  async facts(ask: (seen: SeenFirst) => Questions, signal: AbortSignal): Promise<ClusterFacts> {
    const unreadable = new Map<string, string>();
    /** Without the right to read them, what is told is that, and nothing is done. */
    const readable = async <T>(resource: Resource<KubeObject>, answer: Promise<T>): Promise<T | undefined> => {
      try {
        return await orAbsent(answer);
      } catch (error) {
        if (!(error instanceof ForbiddenError)) throw error;
        unreadable.set(resourceName(resource), error.message);
        return undefined;
      }
    };
    const find = async <T extends KubeObject>(resource: Resource<T>, name: string): Promise<T | undefined> => {
      const options = { signal, ...(resource.namespaced && { namespace: NAMESPACE }) };
      return await readable(resource as Resource<KubeObject>, this.#client.get(resource, name, options));
    };
    const list = async <T extends KubeObject>(resource: Resource<T>): Promise<readonly T[]> => {
      const answer = this.#client.list(resource, { signal, limit: PAGE_SIZE });
      return (await readable(resource as Resource<KubeObject>, answer))?.items ?? [];
    };
    const names = KINDS.map((kind) => renderCRD(kind).metadata.name);
    const [installations, pools, crds, information, nodes] = await Promise.all([
      // Without these there is nobody to tell.
      this.#list(INSTALLATIONS, signal),
      list(IP_POOLS),
      Promise.all(names.map((name) => find(CUSTOM_RESOURCE_DEFINITIONS, name))),
      find(CLUSTER_INFORMATIONS, CLUSTER_INFORMATION_NAME),
      list(NODES),
    ]);
    const questions = ask({ installations, pools });
    const secrets = await Promise.all([...new Set(questions.secrets)].map((name) => find(SECRETS, name)));
    const blocks = questions.blocks ? await list<RawBlock>(RAW_BLOCKS) : [];
    return {
      installations,
      crds: new Map(crds.flatMap((crd) => (crd === undefined ? [] : [[crd.metadata.name, crd]]))),
      pools,
      hasClusterInformation: information !== undefined,
      blocks: blocks.flatMap(blockFacts),
      nodes: nodes.map(nodeFacts),
      secrets: new Set(secrets.flatMap((secret) => secret?.metadata.name ?? [])),
      unreadable: [...unreadable].map(([resource, message]) => ({ resource, message })),
    };
  }

  async workloads(signal: AbortSignal): Promise<Workloads> {
    const options = { namespace: NAMESPACE, signal };
    const [daemonSet, deployment, pods] = await Promise.all([
      orAbsent(this.#client.get(DAEMON_SETS, AGENT, options)),
      orAbsent(this.#client.get(DEPLOYMENTS, CONTROLLER, options)),
      this.#client.list(PODS as Resource<KubePod>, { ...options, labelSelector: `${NAME_LABEL}=${AGENT}` }),
    ]);
    return { daemonSet, deployment, pods: pods.items.map(agentPodOf) };
  }

  async get(object: KubeObject, signal: AbortSignal): Promise<Outcome<KubeObject | undefined>> {
    const { name } = object.metadata;
    return await outcomeOf(orAbsent(this.#client.get(rawResourceOf(object), name, inNamespace(object, signal))));
  }

  async apply(object: KubeObject, { dryRun = false, signal }: ApplyOptions): Promise<Outcome<KubeObject>> {
    const patch = { type: "apply", body: object, fieldManager: MANAGER, force: true, dryRun } as const;
    const { name } = object.metadata;
    return await outcomeOf(this.#client.patch(rawResourceOf(object), name, patch, inNamespace(object, signal)));
  }

  async patchCRD(crd: InstalledCRD, operations: readonly object[], signal: AbortSignal): Promise<Outcome<KubeObject>> {
    const { name, resourceVersion } = crd.metadata;
    const test = { op: "test", path: "/metadata/resourceVersion", value: resourceVersion };
    const patch = { type: "json", body: [test, ...operations], fieldManager: MANAGER } as const;
    return await outcomeOf(this.#client.patch(CUSTOM_RESOURCE_DEFINITIONS, name, patch, { signal }));
  }

  async annotate(
    object: KubeObject,
    annotations: Readonly<Record<string, string | null>>,
    signal: AbortSignal,
  ): Promise<Outcome<KubeObject>> {
    // Another manager than that of `apply`, which would take away what it does not name.
    const patch = { type: "merge", body: { metadata: { annotations } }, fieldManager: `${MANAGER}-state` } as const;
    const { name } = object.metadata;
    return await outcomeOf(this.#client.patch(rawResourceOf(object), name, patch, inNamespace(object, signal)));
  }

  async remove(object: KubeObject, signal: AbortSignal, isUnchanged = false): Promise<Outcome<void>> {
    const { name, uid, resourceVersion } = object.metadata;
    const preconditions = {
      ...(uid !== undefined && { uid }),
      ...(isUnchanged && resourceVersion !== undefined && { resourceVersion }),
    };
    const options = { ...inNamespace(object, signal), preconditions };
    const outcome = await outcomeOf(this.#client.delete(rawResourceOf(object), name, options));
    return outcome.kind === "missing" ? { kind: "ok", value: undefined } : outcome;
  }

  async emptyIPAM(networks: readonly CIDR[], signal: AbortSignal): Promise<readonly KubeObject[]> {
    const [blocks, affinities, handles] = await Promise.all([
      this.#list<RawBlock>(RAW_BLOCKS, signal),
      this.#list(BLOCK_AFFINITIES, signal),
      this.#list(IPAM_HANDLES, signal),
    ]);
    const used = new Set(blocks.filter((block) => blockFacts(block).some(({ pods }) => pods > 0)).map(cidrOfBlock));
    const mayGo = (cidr: string): boolean => !used.has(cidr) && isInside(cidr, networks);
    const mayGoAll = (cidrs: readonly string[]): boolean => cidrs.length > 0 && cidrs.every(mayGo);
    return [
      ...blocks.filter((block) => mayGo(cidrOfBlock(block))),
      ...affinities.filter(({ spec }) => mayGo(spec.cidr)),
      ...handles.filter(({ spec }) => mayGoAll(Object.keys(spec.block))),
    ];
  }

  async setFinalizers(
    { metadata }: Installation,
    finalizers: readonly string[],
    signal: AbortSignal,
  ): Promise<Outcome<KubeObject>> {
    // With the version that was read: somebody else's finalizer must not be lost.
    const body = { metadata: { finalizers, resourceVersion: metadata.resourceVersion } };
    const patch = { type: "merge", body, fieldManager: `${MANAGER}-state` } as const;
    return await outcomeOf(this.#client.patch(INSTALLATIONS, metadata.name, patch, { signal }));
  }

  async writeConditions(
    object: KubeObject,
    conditions: readonly object[],
    signal: AbortSignal,
  ): Promise<Outcome<KubeObject>> {
    const patch = { type: "merge", body: { status: { conditions } }, fieldManager: `${MANAGER}-state` } as const;
    const options = { signal, subresource: "status" } as const;
    return await outcomeOf(this.#client.patch(rawResourceOf(object), object.metadata.name, patch, options));
  }

  /** None of a kind that is not served yet. */
  async #list<T extends KubeObject>(resource: Resource<T>, signal: AbortSignal): Promise<readonly T[]> {
    return (await orAbsent(this.#client.list(resource, { signal, limit: PAGE_SIZE })))?.items ?? [];
  }
}

/** As it is served: what was not parsed is compared and written as it is. */
function rawResourceOf(object: KubeObject): Resource<KubeObject> {
  const known = [INSTALLATIONS, TIGERA_STATUSES, PODS, IPAM_BLOCKS, BLOCK_AFFINITIES, IPAM_HANDLES].find(
    ({ kind }) => kind === object.kind,
  );
  const { group, version, kind, plural, namespaced } = known ?? resourceOf(object);
  return { group, version, kind, plural, namespaced };
}

function inNamespace(
  { metadata: { namespace } }: KubeObject,
  signal: AbortSignal,
): { namespace?: string; signal: AbortSignal } {
  return { signal, ...(namespace !== undefined && { namespace }) };
}

/** Undefined for an object, or a whole kind, that is not there. */
async function orAbsent<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof NotFoundError) return undefined;
    throw error;
  }
}

/** @throws whatever is no answer of the API server, such as the signal's reason */
async function outcomeOf<T>(answer: Promise<T>): Promise<Outcome<T>> {
  try {
    return { kind: "ok", value: await answer };
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    const { message } = error;
    if (error instanceof ForbiddenError) return { kind: "forbidden", message };
    if (error instanceof InvalidError || error instanceof RequestError) return { kind: "invalid", message };
    if (error instanceof NotFoundError) return { kind: "missing", message };
    return { kind: error instanceof ConflictError ? "conflict" : "away", message };
  }
}

function nodeFacts(node: Node): NodeFacts {
  const { conditions, addresses = [] } = (node.status ?? {}) as {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly addresses?: readonly { readonly address: string }[];
  };
  const linkMTU = Number(node.metadata.annotations?.[LINK_MTU_ANNOTATION] ?? Number.NaN);
  return {
    name: node.metadata.name,
    isReady: conditions?.find(({ type }) => type === "Ready")?.status === "True",
    addresses: addresses.map(({ address }) => address),
    ...(Number.isInteger(linkMTU) && { linkMTU }),
  };
}

interface RawBlock extends KubeObject {
  readonly spec?: {
    readonly cidr?: string;
    readonly allocations?: readonly (number | null)[];
    readonly attributes?: readonly { readonly secondary?: Readonly<Record<string, string>> | null }[];
  };
}

/** As they are: a block that is damaged may be in use as well. */
const { parse: _, ...RAW_BLOCKS }: Resource<IPAMBlock> = IPAM_BLOCKS;

function cidrOfBlock({ spec = {} }: RawBlock): string {
  return spec.cidr ?? "";
}

/** What is no network is in none. */
function isInside(text: string, networks: readonly CIDR[]): boolean {
  try {
    const cidr = parseCIDR(text);
    return networks.some((network) => cidrCovers(network, cidr));
  } catch {
    return false;
  }
}

/** Addresses of tunnels are the agents' own. */
function blockFacts({ spec = {} }: RawBlock): ClusterFacts["blocks"] {
  const { cidr, allocations = [], attributes = [] } = spec;
  const isPod = (index: number | null): boolean =>
    index !== null && !/TunnelAddress$/.test(attributes[index]?.secondary?.["type"] ?? "");
  try {
    return [{ cidr: parseCIDR(cidr ?? ""), pods: allocations.filter(isPod).length }];
  } catch {
    return []; // No network: it can be in no pool.
  }
}

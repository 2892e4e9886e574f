// SPDX-License-Identifier: Apache-2.0
import { BLOCK_AFFINITIES } from "../crds/block-affinity.ts";
import { CLUSTER_INFORMATION_NAME, CLUSTER_INFORMATIONS } from "../crds/cluster-information.ts";
import { NODES, PODS } from "../crds/core.ts";
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
import type { KubeClient } from "../kube/api.ts";
import {
  AlreadyExistsError,
  ConflictError,
  ForbiddenError,
  InvalidError,
  KubeError,
  NotFoundError,
  RequestError,
  resourceName,
} from "../kube/errors.ts";
import type { CIDR } from "../net/cidr.ts";
import { agentPodOf, type KubePod } from "./agent-pod.ts";
import { blockFacts, cidrOfBlock, isInside, nodeFacts, type RawBlock } from "./cluster-facts.ts";
import { isOurs, MANAGER } from "./judge-pools.ts";
import type {
  ApplyOptions,
  ClusterFacts,
  ClusterPort,
  Outcome,
  PullSecret,
  Questions,
  SeenFirst,
  Unreadable,
  Workloads,
} from "./ports.ts";
import { resourceOf } from "./render/manifest.ts";
import {
  AGENT,
  CONTROLLER,
  MANAGED_BY_LABEL,
  NAME_LABEL,
  NAMESPACE,
  PULL_SECRET_NAMESPACE,
  TIGERA_OPERATOR,
} from "./render/names.ts";

const PAGE_SIZE = 500;
export interface KubeClusterOptions {
  /** Where pull secrets are copied from that are not in our namespace. @default PULL_SECRET_NAMESPACE */
  readonly pullSecretNamespace?: string;
}

/** As they are: a block that is damaged may be in use as well. */
const { parse: _, ...RAW_BLOCKS }: Resource<IPAMBlock> = IPAM_BLOCKS;

interface Reader {
  readonly find: <T extends KubeObject>(resource: Resource<T>, name: string) => Promise<T | undefined>;
  readonly list: <T extends KubeObject>(
    resource: Resource<T>,
    options?: { readonly namespace?: string; readonly labelSelector?: string },
  ) => Promise<readonly T[]>;
  readonly unreadable: () => readonly Unreadable[];
}

/** The port over any Kubernetes API server. */
export class KubeCluster implements ClusterPort {
  readonly #client: KubeClient;
  readonly #pullSecretNamespace: string;

  constructor(client: KubeClient, { pullSecretNamespace = PULL_SECRET_NAMESPACE }: KubeClusterOptions = {}) {
    this.#client = client;
    this.#pullSecretNamespace = pullSecretNamespace;
  }

  async facts(ask: (seen: SeenFirst) => Questions, signal: AbortSignal): Promise<ClusterFacts> {
    const { unreadable, find, list } = this.#reader(signal);
    const names = KINDS.map((kind) => renderCRD(kind).metadata.name);
    const [installations, pools, crds, information, nodes, copiedSecrets, hasTigeraOperator] = await Promise.all([
      // Without these there is nobody to tell.
      this.#list(INSTALLATIONS, signal),
      list(IP_POOLS),
      Promise.all(names.map((name) => find(CUSTOM_RESOURCE_DEFINITIONS, name))),
      find(CLUSTER_INFORMATIONS, CLUSTER_INFORMATION_NAME),
      list(NODES),
      list(SECRETS, { namespace: NAMESPACE, labelSelector: `${MANAGED_BY_LABEL}=${MANAGER}` }),
      this.#hasTigeraOperator(signal),
    ]);
    const questions = ask({ installations, pools });
    const pullSecrets = await Promise.all(
      [...new Set(questions.secrets)].map(async (name): Promise<[string, PullSecret]> => {
        const secret = await find(SECRETS, name);
        if (secret !== undefined && !isOurs(secret)) return [name, { kind: "present" }];
        return [name, await this.#secretElsewhere(name, signal)];
      }),
    );
    const blocks = questions.blocks ? await list<RawBlock>(RAW_BLOCKS) : [];
    return {
      installations,
      crds: new Map(crds.flatMap((crd) => (crd === undefined ? [] : [[crd.metadata.name, crd]]))),
      pools,
      hasClusterInformation: information !== undefined,
      blocks: blocks.flatMap(blockFacts),
      nodes: nodes.map(nodeFacts),
      pullSecrets: new Map(pullSecrets),
      copiedSecrets,
      hasTigeraOperator,
      unreadable: unreadable(),
    };
  }

  /** Reads for one look: what the server does not show counts as absent, and is known afterwards. */
  #reader(signal: AbortSignal): Reader {
    const refused = new Map<string, string>();
    const readable = async <T extends KubeObject, A>(of: Resource<T>, answer: Promise<A>): Promise<A | undefined> => {
      try {
        return await orAbsent(answer);
      } catch (error) {
        if (!(error instanceof ForbiddenError)) throw error;
        refused.set(resourceName(of as Resource<KubeObject>), error.message);
        return undefined;
      }
    };
    return {
      find: async (resource, name) => {
        const options = { signal, ...(resource.namespaced && { namespace: NAMESPACE }) };
        return await readable(resource, this.#client.get(resource, name, options));
      },
      list: async (resource, options = {}) => {
        const answer = this.#client.list(resource, { ...options, signal, limit: PAGE_SIZE });
        return (await readable(resource, answer))?.items ?? [];
      },
      unreadable: () => [...refused].map(([resource, message]) => ({ resource, message })),
    };
  }

  async #hasTigeraOperator(signal: AbortSignal): Promise<boolean> {
    const { name, namespace } = TIGERA_OPERATOR;
    try {
      const { spec } = await this.#client.get(DEPLOYMENTS, name, { namespace, signal });
      return spec?.replicas !== 0;
    } catch (error) {
      if (error instanceof NotFoundError || error instanceof ForbiddenError) return false;
      throw error;
    }
  }

  /** Rights for the other namespace are its owner's to give, and nothing else needs them: a refusal is no fault. */
  async #secretElsewhere(name: string, signal: AbortSignal): Promise<PullSecret> {
    const namespace = this.#pullSecretNamespace;
    if (namespace === NAMESPACE) return { kind: "missing", why: "" };
    try {
      const secret = await orAbsent(this.#client.get(SECRETS, name, { namespace, signal }));
      if (secret !== undefined) return { kind: "elsewhere", secret };
      return { kind: "missing", why: `, and none in ${namespace} that could be copied` };
    } catch (error) {
      if (!(error instanceof ForbiddenError)) throw error;
      return { kind: "missing", why: `, and the operator may not read that of ${namespace}` };
    }
  }

  async workloads(signal: AbortSignal): Promise<Workloads> {
    const { unreadable, find, list } = this.#reader(signal);
    const [daemonSet, deployment, pods] = await Promise.all([
      find(DAEMON_SETS, AGENT),
      find(DEPLOYMENTS, CONTROLLER),
      list(PODS as Resource<KubePod>, { namespace: NAMESPACE, labelSelector: `${NAME_LABEL}=${AGENT}` }),
    ]);
    return { daemonSet, deployment, pods: pods.map(agentPodOf), unreadable: unreadable() };
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

  async create(object: KubeObject, { dryRun = false, signal }: ApplyOptions): Promise<Outcome<KubeObject>> {
    const options = { ...inNamespace(object, signal), dryRun };
    return await outcomeOf(this.#client.create(rawResourceOf(object), object, options));
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

  async emptyIPAM(networks: readonly CIDR[], signal: AbortSignal): Promise<Outcome<readonly KubeObject[]>> {
    return await outcomeOf(this.#emptyIPAM(networks, signal));
  }

  async #emptyIPAM(networks: readonly CIDR[], signal: AbortSignal): Promise<readonly KubeObject[]> {
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
    const isThere = error instanceof ConflictError || error instanceof AlreadyExistsError;
    return { kind: isThere ? "conflict" : "away", message };
  }
}

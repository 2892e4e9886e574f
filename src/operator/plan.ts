// SPDX-License-Identifier: Apache-2.0
import { CLUSTER_INFORMATION_NAME } from "../crds/cluster-information.ts";
import { INSTALLATIONS, type Installation, MANAGED_ANNOTATION } from "../crds/installation.ts";
import type { IPPool } from "../crds/ip-pool.ts";
import type { KubeObject, OwnerReference } from "../crds/object.ts";
import { planCRDs } from "./crd-plan.ts";
import { isOurs, MANAGER, modesOf, needs, POOLS_FIELD, planPools } from "./judge-pools.ts";
import type { PoolWish } from "./pool-wish.ts";
import type { ClusterFacts, Questions } from "./ports.ts";
import { type Problem, unreadableProblem } from "./problem.ts";
import { readSpec, type Wanted } from "./read-spec.ts";
import type { Manifest } from "./render/manifest.ts";
import { AGENT, labelsOf, MANAGED_BY_LABEL, NAMESPACE, TIGERA_OPERATOR } from "./render/names.ts";
import { renderInstall } from "./render/render.ts";
import type { InstallSettings } from "./render/settings.ts";

/** All that is to be done for an Installation. With problems, nothing of it is. */
export interface Plan {
  /** Each step is done before the next begins: pools are there before an agent asks for them. */
  readonly steps: readonly (readonly Manifest[])[];
  readonly extendCRDs: ReturnType<typeof planCRDs>["extend"];
  /** Pools and copies of Secrets that are no longer asked for. */
  readonly remove: readonly KubeObject[];
  readonly problems: readonly Problem[];
  /** Fields of the Installation that have no effect. */
  readonly ignored: readonly string[];
  /** What else a person should know; nothing is wrong. */
  readonly notes: readonly string[];
  readonly maxUnavailable: number;
}

export interface PlanInput {
  readonly installation: Installation;
  readonly facts: ClusterFacts;
  /** The operator's own. */
  readonly image: string;
}

/** Pure: the same Installation in the same cluster has the same plan. */
export function planInstallation({ installation, facts, image }: PlanInput): Plan {
  const wanted = readSpec(installation, image);
  const crds = planCRDs(facts.crds, wanted.permissions);
  const pools = planPools(wanted, facts);
  const { settings: own } = wanted;
  const settings: InstallSettings = {
    ...own,
    cni: { ...own.cni, families: pools.families },
    // The port is the host's, so that a second pod on the only node could never start.
    controlPlaneReplicas: Math.min(own.controlPlaneReplicas, Math.max(1, facts.nodes.length)),
  };
  // A pool that could not be read is missing among the wishes: what follows from that would be said for nothing.
  const arePoolsRead = !wanted.problems.some(({ field }) => field.startsWith(POOLS_FIELD));
  const owner = ownerOf(installation);
  const objects = renderInstall(settings, MANAGER).map((manifest) => withOwner(manifest, owner));
  const isWorkload = ({ kind }: Manifest): boolean => kind === "DaemonSet" || kind === "Deployment";
  const information = facts.hasClusterInformation ? [] : [clusterInformation(installation)];
  return {
    steps: [
      crds.apply,
      [...information, ...pools.wishes.map(renderPool), ...pools.drain.map(({ pool }) => renderDisabled(pool))],
      [
        ...copiesOf(wanted, facts).map((copy) => withOwner(copy, owner)),
        ...objects.filter((manifest) => !isWorkload(manifest)),
      ],
      objects.filter(isWorkload),
    ],
    extendCRDs: crds.extend,
    remove: [
      ...pools.remove,
      ...facts.copiedSecrets.filter(({ metadata }) => !wanted.settings.imagePullSecrets.includes(metadata.name)),
    ],
    problems: [
      ...facts.unreadable.map(unreadableProblem),
      ...tigeraProblems(installation, facts),
      ...wanted.problems,
      ...secretProblems(wanted, facts),
      ...crds.problems,
      ...(arePoolsRead ? pools.problems : []),
      ...mtuProblems(wanted, pools.overheadBytes, facts),
    ],
    ignored: wanted.ignored,
    notes: [
      ...crds.notes,
      ...(arePoolsRead ? pools.notes : []),
      ...pools.drain.map(
        ({ pool, pods }) =>
          `IPPool ${pool.metadata.name} is disabled, and goes when nobody uses it any more (pods: ${pods})`,
      ),
    ],
    maxUnavailable: wanted.maxUnavailable(facts.nodes.length),
  };
}

/** What the plan depends on besides, and what is only read where it does. */
export function questionsOf(installation: Installation, pools: readonly IPPool[], image: string): Questions {
  const { settings, pools: asked } = readSpec(installation, image);
  const isKept = ({ metadata, spec }: IPPool): boolean =>
    asked === undefined || asked.some((wish) => wish.name === metadata.name && modesOf(wish.spec) === modesOf(spec));
  const isRemoval = installation.metadata.deletionTimestamp !== undefined;
  return { secrets: settings.imagePullSecrets, blocks: isRemoval || !pools.filter(isOurs).every(isKept) };
}

/** The Installation that counts, and those that claim to, too: of several the oldest does. */
export function chooseInstallation(all: readonly Installation[]): {
  readonly active: Installation | undefined;
  readonly others: readonly Installation[];
} {
  const marked = all
    .filter(({ metadata }) => metadata.annotations?.[MANAGED_ANNOTATION] === "true")
    .sort((a, b) => compare(ageOf(a), ageOf(b)) || compare(a.metadata.name, b.metadata.name));
  return { active: marked[0], others: marked.slice(1) };
}

export function secondInstallation(active: Installation): Problem {
  const { name } = active.metadata;
  return {
    reason: "SecondInstallation",
    field: `metadata.annotations[${MANAGED_ANNOTATION}]`,
    message: `Installation ${name} is older, and only one counts: delete this one, or take the annotation off it; to have it count instead, take the annotation off ${name} (to delete that one would remove the network first)`,
  };
}

function ageOf({ metadata }: Installation): string {
  // One that is only planned has no age yet.
  return metadata.creationTimestamp ?? "9";
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function ownerOf({ metadata }: Installation): OwnerReference | undefined {
  if (metadata.uid === undefined) return undefined;
  const { group, version, kind } = INSTALLATIONS;
  return { apiVersion: `${group}/${version}`, kind, name: metadata.name, uid: metadata.uid, controller: true };
}

/**
 * What the agents need to give addresses back has no owner: `kubectl delete --cascade=foreground` must not take it away
 * before them. The operator removes it last.
 */
function withOwner(manifest: Manifest, owner: OwnerReference | undefined): Manifest {
  const { kind, metadata } = manifest;
  const isAccess = kind === "ServiceAccount" || kind.startsWith("ClusterRole");
  if (owner === undefined || (isAccess && metadata.name === AGENT)) return manifest;
  return { ...manifest, metadata: { ...metadata, ownerReferences: [owner] } };
}

function renderPool({ name, spec }: PoolWish): Manifest {
  return { ...poolHead(name), spec };
}

/** As it is, but for new pods. */
function renderDisabled({ metadata, spec }: IPPool): Manifest {
  return { ...poolHead(metadata.name), spec: { ...spec, disabled: true } };
}

function poolHead(name: string): Manifest {
  return {
    apiVersion: "crd.projectcalico.org/v1",
    kind: "IPPool",
    metadata: { name, labels: { [MANAGED_BY_LABEL]: MANAGER } },
  };
}

/** The cluster's identity: the Installation's UID is as unique as any, and stays the same when the write is repeated. */
function clusterInformation({ metadata }: Installation): Manifest {
  return {
    apiVersion: "crd.projectcalico.org/v1",
    kind: "ClusterInformation",
    metadata: { name: CLUSTER_INFORMATION_NAME, labels: labelsOf("gingham", MANAGER) },
    spec: { clusterGUID: metadata.uid ?? "", datastoreReady: true },
  };
}

/** Two operators would make two networks of one Installation. */
function tigeraProblems({ metadata: { name } }: Installation, { hasTigeraOperator }: ClusterFacts): Problem[] {
  if (!hasTigeraOperator || name !== TIGERA_OPERATOR.installation) return [];
  const operator = `Deployment ${TIGERA_OPERATOR.namespace}/${TIGERA_OPERATOR.name}`;
  const message = `Tigera's operator (${operator}) acts on the Installation of this name, too: give ours another name, or remove that operator or scale it to 0 first`;
  return [{ reason: "TigeraOperator", field: "metadata.name", message }];
}

/** Kubelets take pull secrets from the pod's own namespace only. */
function copiesOf({ settings }: Wanted, { pullSecrets }: ClusterFacts): Manifest[] {
  return [...new Set(settings.imagePullSecrets)].flatMap((name) => {
    const found = pullSecrets.get(name);
    if (found?.kind !== "elsewhere") return [];
    const { type, data } = found.secret;
    const metadata = { name, namespace: NAMESPACE, labels: labelsOf("gingham", MANAGER) };
    return [{ apiVersion: "v1", kind: "Secret", metadata, ...(type && { type }), ...(data && { data }) }];
  });
}

function secretProblems({ settings }: Wanted, { pullSecrets }: ClusterFacts): Problem[] {
  return settings.imagePullSecrets.flatMap((name, i) => {
    const found = pullSecrets.get(name) ?? { kind: "missing", why: "" };
    if (found.kind !== "missing") return [];
    const message = `there is no Secret ${name} in the namespace ${NAMESPACE}${found.why}: make it in ${NAMESPACE}, or leave the entry out`;
    return [{ reason: "PullSecretMissing", field: `spec.imagePullSecrets[${i}]`, message } as const];
  });
}

function mtuProblems(wanted: Wanted, overhead: number, { nodes }: ClusterFacts): Problem[] {
  const { mtuBytes } = wanted.settings;
  const narrow = nodes.find(({ linkMTU }) => linkMTU !== undefined && mtuBytes + overhead > linkMTU);
  if (mtuBytes === 0 || narrow?.linkMTU === undefined) return [];
  const fits = narrow.linkMTU - overhead;
  const more = overhead === 0 ? "" : ` and ${overhead} for the encapsulation`;
  const harm = `${mtuBytes}${more} is more than the links of node ${narrow.name} carry (${narrow.linkMTU}): large packets would be lost; at most ${fits} fits, and 0 finds it`;
  return needs("ExceedLinkMTU", "spec.calicoNetwork.mtu", harm, wanted);
}

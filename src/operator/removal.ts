// SPDX-License-Identifier: Apache-2.0
import { CLUSTER_INFORMATION_NAME } from "../crds/cluster-information.ts";
import type { KubeObject } from "../crds/object.ts";
import { cidrCovers, parseCIDR } from "../net/cidr.ts";
import { type ApplyTools, problemOf } from "./apply.ts";
import { isOurs, MANAGER } from "./judge-pools.ts";
import type { ClusterFacts, ClusterPort, Workloads } from "./ports.ts";
import { type Problem, unreadableProblem } from "./problem.ts";
import { type Manifest, nameOf } from "./render/manifest.ts";
import { renderInstall } from "./render/render.ts";
import { DEFAULT_SETTINGS, PROVIDERS } from "./render/settings.ts";

export interface RemovalOutcome {
  readonly problems: readonly Problem[];
  /** What is waited for; undefined when nothing of ours is left. */
  readonly waiting?: string;
  /** IPPools of ours that stay, since pods have their addresses. */
  readonly kept: readonly string[];
}

/**
 * Takes away what the operator made, in an order in which pods can be deleted all the time: the agents go before the
 * accounts and rights with which they give addresses back. CRDs stay, and so do pools that pods have addresses of, with all
 * that is in them; without an agent, the launcher writes down what is to be released. Idempotent: each pass does what is possible now.
 */
export async function remove(facts: ClusterFacts, workloads: Workloads, tools: ApplyTools): Promise<RemovalOutcome> {
  // Agents that may not be seen may be running.
  const blind = [...facts.unreadable, ...workloads.unreadable];
  if (blind.length > 0) return { problems: blind.map(unreadableProblem), kept: [] };
  const objects = everythingEver().reverse();
  const isWorkload = ({ kind }: KubeObject): boolean => kind === "DaemonSet" || kind === "Deployment";
  const problems = await removeAll(objects.filter(isWorkload), tools);
  if (problems.length > 0) return { problems, kept: [] };
  // The kubelet of a node that is down confirms nothing: its agent is as good as gone.
  const up = new Set(facts.nodes.filter(({ isDown }) => !isDown).map(({ name }) => name));
  const running = workloads.pods.filter(({ node }) => up.has(node));
  if (running.length > 0) {
    const nodes = running.map(({ node }) => node).slice(0, 5);
    return { problems, kept: [], waiting: `Removing: ${running.length} agents are stopping (${nodes.join(", ")})` };
  }
  const inUse = (cidr: string): boolean =>
    facts.blocks.some((block) => block.pods > 0 && cidrCovers(parseCIDR(cidr), block.cidr));
  const ours = facts.pools.filter(isOurs);
  const kept = ours.filter(({ spec }) => inUse(spec.cidr));
  const free = ours.filter((pool) => !kept.includes(pool));
  // Whoever still uses pools needs this one, too.
  const information = kept.length === 0 && free.length === facts.pools.length ? [clusterInformation()] : [];
  const rest = objects.filter((object) => !isWorkload(object));
  const { cluster, signal } = tools;
  // The agents are gone: nobody gives back what they held for themselves.
  const networks = free.map(({ spec }) => parseCIDR(spec.cidr));
  const nothing = { kind: "ok", value: [] } as const;
  const remains = networks.length === 0 ? nothing : await cluster.emptyIPAM(networks, signal);
  if (remains.kind !== "ok") return { problems: [problemOf(IPAM_OBJECTS, remains)], kept: [] };
  for (const object of remains.value) {
    const outcome = await cluster.remove(object, signal, true);
    if (outcome.kind !== "ok") return { problems: [problemOf(object, outcome)], kept: [] };
  }
  return {
    problems: await removeAll([...free, ...information, ...rest, ...facts.copiedSecrets], tools),
    kept: kept.map(({ metadata }) => metadata.name),
  };
}

/** For a message about all of them. */
const IPAM_OBJECTS: KubeObject = { apiVersion: "", kind: "IPAMBlock", metadata: { name: "*" } };

/** Whatever the settings were: the objects of each provider. */
function everythingEver(): Manifest[] {
  const all = PROVIDERS.flatMap((provider) => renderInstall({ ...DEFAULT_SETTINGS, image: "", provider }, MANAGER));
  return [...new Map(all.map((object) => [nameOf(object), object])).values()];
}

async function removeAll(objects: readonly KubeObject[], tools: ApplyTools): Promise<readonly Problem[]> {
  const outcomes = [];
  for (const object of objects) outcomes.push(await removeOurs(object, tools));
  return outcomes.filter((problem) => problem !== undefined);
}

/** Only what has our label, and only the object that had it. */
async function removeOurs(
  object: KubeObject,
  { cluster, signal }: { readonly cluster: ClusterPort; readonly signal: AbortSignal },
): Promise<Problem | undefined> {
  const found = await cluster.get(object, signal);
  if (found.kind !== "ok") return found.kind === "missing" ? undefined : problemOf(object, found);
  if (found.value === undefined || !isOurs(found.value)) return undefined;
  const outcome = await cluster.remove(found.value, signal);
  return outcome.kind === "ok" ? undefined : problemOf(object, outcome);
}

function clusterInformation(): KubeObject {
  const metadata = { name: CLUSTER_INFORMATION_NAME };
  return { apiVersion: "crd.projectcalico.org/v1", kind: "ClusterInformation", metadata };
}

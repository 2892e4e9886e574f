// SPDX-License-Identifier: Apache-2.0
import { parseHistory } from "../../cni/journal/events.ts";
import type { AddressHistory } from "../../cni/journal/types.ts";
import { NODES, PODS, type Pod } from "../../crds/core.ts";
import type { KubeObject, Resource } from "../../crds/object.ts";
import type { KubeClient } from "../../kube/api.ts";
import { describeError } from "../../lib/errors.ts";
import { formatIP, type IP } from "../../net/ip.ts";

/** Label of the agents' pods, by which they are found. */
export const AGENT_LABEL = "app.kubernetes.io/name=gingham-agent";

/** What a node said of an address, or why it could not be asked. */
export type NodeAnswer = { readonly node: string } & (
  | { readonly kind: "answered"; readonly from: "files" | "agent"; readonly history: AddressHistory }
  | { readonly kind: "notAsked"; readonly why: string }
);

type HistoryObject = KubeObject & AddressHistory;

/** An agent's answer through the API server's proxy of pods. */
const POD_HISTORIES: Resource<HistoryObject> = {
  group: "",
  version: "v1",
  kind: "Pod",
  plural: "pods",
  namespaced: true,
  parse: (raw) => ({ apiVersion: "v1", kind: "History", metadata: { name: "" }, ...parseHistory(raw) }),
};

const TIMEOUT_MS = 5000;
const CONCURRENCY = 16;

/**
 * Asks the agents of all nodes but those that are answered for, through the API server: so it takes the right to `get` the
 * subresource `pods/proxy`, and the agents' `--remote-history on`.
 *
 * Errors: of listing nodes and pods. A node that does not answer is told of in its place.
 */
export async function askAgents(
  client: KubeClient,
  ip: IP,
  { port, except }: { readonly port: number; readonly except: ReadonlySet<string> },
): Promise<readonly NodeAnswer[]> {
  const [nodes, pods] = await Promise.all([
    client.list(NODES, { limit: 500 }),
    client.list(PODS, { labelSelector: AGENT_LABEL, limit: 500 }),
  ]);
  const agents = new Map(pods.items.filter(isRunning).map((pod) => [pod.spec?.nodeName ?? "", pod]));
  const names = nodes.items.map(({ metadata }) => metadata.name).filter((name) => !except.has(name));
  const answers: NodeAnswer[] = [];
  const waiting = names.toSorted();
  const worker = async (): Promise<void> => {
    for (let node = waiting.shift(); node !== undefined; node = waiting.shift())
      answers.push(await askAgent(client, ip, { node, port, pod: agents.get(node) }));
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, waiting.length) }, worker));
  return answers.sort((a, b) => (a.node < b.node ? -1 : 1));
}

async function askAgent(
  client: KubeClient,
  ip: IP,
  { node, port, pod }: { readonly node: string; readonly port: number; readonly pod: Pod | undefined },
): Promise<NodeAnswer> {
  if (pod === undefined) return { kind: "notAsked", node, why: `no running pod labelled ${AGENT_LABEL} is there` };
  const { name, namespace = "default" } = pod.metadata;
  const subresource = `proxy/history/${encodeURIComponent(formatIP(ip))}`;
  try {
    const options = { namespace, subresource, timeoutMs: TIMEOUT_MS };
    const { events, sinceMs } = await client.get(POD_HISTORIES, `${name}:${port}`, options);
    const history = { events, ...(sinceMs !== undefined && { sinceMs }) };
    return { kind: "answered", node, from: "agent", history };
  } catch (error) {
    return { kind: "notAsked", node, why: describeError(error) };
  }
}

function isRunning({ spec, status }: Pod): boolean {
  return spec?.nodeName !== undefined && status?.phase === "Running";
}

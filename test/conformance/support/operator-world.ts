// SPDX-License-Identifier: Apache-2.0
import { NODES, type Node, PODS } from "../../../src/crds/core.ts";
import type { KubeObject, Resource } from "../../../src/crds/object.ts";
import { DAEMON_SETS, DEPLOYMENTS } from "../../../src/crds/workloads.ts";
import type { KubeClient } from "../../../src/kube/api.ts";
import { NotFoundError } from "../../../src/kube/errors.ts";
import { systemClock as clock } from "../../../src/lib/system-clock.ts";
import type { Manifest } from "../../../src/operator/render/manifest.ts";
import { AGENT, CONTROLLER, NAMESPACE } from "../../../src/operator/render/names.ts";

/** Node by node: what becomes of an agent that is started there. Absent: it becomes ready. */
export type Behaviour = Readonly<Record<string, "ready" | "fails">>;

/** What Kubernetes' own controllers and kubelets would do with the DaemonSet and the Deployment. */
export class OperatorWorld {
  behaviour: Behaviour = {};
  readonly #client: KubeClient;
  #pods = 0;

  constructor(client: KubeClient) {
    this.#client = client;
  }

  /** Turn after turn, until the signal aborts. */
  async run(signal: AbortSignal, onError: (error: unknown) => void): Promise<void> {
    while (!signal.aborted) {
      await this.#play().catch(onError);
      await clock.sleep(50, signal).catch(() => {});
    }
  }

  async #find<T extends KubeObject>(resource: Resource<T>, name: string): Promise<T | undefined> {
    try {
      return await this.#client.get(resource, name, { namespace: NAMESPACE });
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      throw error;
    }
  }

  async #play(): Promise<void> {
    const daemonSet = (await this.#find(DAEMON_SETS, AGENT)) as Manifest | undefined;
    const { items: pods } = await this.#client.list(PODS, { namespace: NAMESPACE });
    if (daemonSet === undefined) {
      for (const { metadata } of pods) await this.#client.delete(PODS, metadata.name, { namespace: NAMESPACE });
      return;
    }
    const { template } = daemonSet["spec"] as {
      readonly template: { readonly metadata: object; readonly spec: object };
    };
    const nodes = (await this.#client.list(NODES, { labelSelector: "gingham.dev/test=yes" })).items;
    for (const node of nodes) {
      const { name } = node.metadata;
      if (pods.some(({ spec }) => spec?.nodeName === name)) continue;
      await this.#startPod(name, template, isReady(node));
    }
    const now = (await this.#client.list(PODS, { namespace: NAMESPACE })).items as unknown as readonly PodLike[];
    const ready = now.filter(({ status }) =>
      status?.conditions?.some((c) => c.type === "Ready" && c.status === "True"),
    );
    await this.#writeStatus(DAEMON_SETS as Resource<KubeObject>, daemonSet, {
      observedGeneration: daemonSet.metadata.generation ?? 0,
      desiredNumberScheduled: nodes.length,
      currentNumberScheduled: nodes.length,
      numberMisscheduled: 0,
      numberReady: ready.length,
      numberAvailable: ready.length,
    });
    const deployment = await this.#find(DEPLOYMENTS, CONTROLLER);
    const replicas = deployment?.spec?.replicas ?? 1;
    if (deployment !== undefined)
      await this.#writeStatus(DEPLOYMENTS as Resource<KubeObject>, deployment, {
        observedGeneration: deployment.metadata.generation ?? 0,
        replicas,
        updatedReplicas: replicas,
        readyReplicas: replicas,
        availableReplicas: replicas,
      });
  }

  async #startPod(
    node: string,
    template: { readonly metadata: object; readonly spec: object },
    isUp: boolean,
  ): Promise<void> {
    const name = `${AGENT}-${node}-${this.#pods++}`;
    const spec = { ...template.spec, nodeName: node, terminationGracePeriodSeconds: 0 };
    const pod = { apiVersion: "v1", kind: "Pod", metadata: { ...template.metadata, name, namespace: NAMESPACE }, spec };
    await this.#client.create(PODS as Resource<KubeObject>, pod);
    const fails = this.behaviour[node] === "fails" || !isUp;
    const state = { waiting: { reason: "CrashLoopBackOff", message: "back-off restarting" } };
    const status = {
      conditions: [{ type: "Ready", status: fails ? "False" : "True" }],
      containerStatuses: [
        {
          name: "agent",
          image: "example.org/agent:1",
          imageID: "",
          ready: !fails,
          restartCount: 0,
          ...(fails && { state }),
        },
      ],
    };
    await this.#client.patch(
      PODS,
      name,
      { type: "merge", body: { status } },
      { namespace: NAMESPACE, subresource: "status" },
    );
  }

  async #writeStatus(resource: Resource<KubeObject>, object: KubeObject, status: object): Promise<void> {
    const options = { namespace: NAMESPACE, subresource: "status" } as const;
    await this.#client.patch(resource, object.metadata.name, { type: "merge", body: { status } }, options);
  }
}

interface PodLike {
  readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
}

function isReady(node: Node): boolean {
  return (
    (node as unknown as PodLike).status?.conditions?.some((c) => c.type === "Ready" && c.status === "True") ?? false
  );
}

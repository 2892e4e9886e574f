// SPDX-License-Identifier: Apache-2.0
import type { Pod } from "../crds/core.ts";
import type { DaemonSet } from "../crds/workloads.ts";
import type { AgentPod } from "./ports.ts";
import { REVISION_ANNOTATION } from "./render/agent.ts";

interface ContainerStatus {
  readonly name: string;
  readonly state?: { readonly waiting?: { readonly reason?: string; readonly message?: string } };
  /** With the end of its log, where that is the container's termination message. */
  readonly lastState?: { readonly terminated?: { readonly message?: string } };
}

/** What the operator reads of a pod. Source: core/v1 PodStatus. */
export interface KubePod extends Pod {
  readonly status?: NonNullable<Pod["status"]> & {
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly initContainerStatuses?: readonly ContainerStatus[];
    readonly containerStatuses?: readonly ContainerStatus[];
  };
}

/** A container waits for these as part of every start. */
const ORDINARY = new Set(["ContainerCreating", "PodInitializing"]);

export function agentPodOf({ metadata, spec, status = {} }: KubePod): AgentPod {
  const containers = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  const waiting = containers.find(({ state }) => {
    const reason = state?.waiting?.reason;
    return reason !== undefined && !ORDINARY.has(reason);
  });
  const { reason = "" } = waiting?.state?.waiting ?? {};
  return {
    name: metadata.name,
    namespace: metadata.namespace ?? "",
    uid: metadata.uid ?? "",
    node: spec?.nodeName ?? "",
    revision: metadata.annotations?.[REVISION_ANNOTATION] ?? "",
    isReady: status.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") ?? false,
    isLeaving: metadata.deletionTimestamp !== undefined,
    trouble: waiting === undefined ? "" : [`${waiting.name}: ${reason}`, ...lastWords(waiting)].join(", "),
  };
}

/** Why the container ended last, if it said so; else what the kubelet says. */
function lastWords({ state, lastState }: ContainerStatus): string[] {
  const lines = (lastState?.terminated?.message ?? "").split("\n").filter((line) => line.trim() !== "");
  const words = lines.at(-1) ?? state?.waiting?.message;
  return words === undefined ? [] : [words];
}

/** Of the pods that a DaemonSet of ours makes now. */
export function revisionOf({ spec }: DaemonSet): string {
  return spec?.template?.metadata?.annotations?.[REVISION_ANNOTATION] ?? "";
}

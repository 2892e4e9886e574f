// SPDX-License-Identifier: Apache-2.0
import type { AttachmentID, PodRef, WholeRecord } from "../types.ts";

/** Hears which pods have an interface and which lost it. Both methods return at once and never throw. */
export interface PodStatusListener {
  /** To be called while the attachment's lock is held, so that events come in the order of what they tell. */
  attached(id: AttachmentID, record: Pick<WholeRecord, "pod" | "result">): void;
  detached(id: AttachmentID, pod: PodRef | undefined): void;
}

/** What of a Pod object its annotations are judged by. */
export interface PodState {
  readonly uid: string;
  readonly resourceVersion: string;
  readonly annotations: Readonly<Record<string, string>>;
}

/** What is written to a Pod object. UID and resourceVersion are preconditions. */
export interface PodStatusPatch {
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly annotations: Readonly<Record<string, string>>;
}

/** Pod objects at the API server. Implemented by `kube/pod-status`. */
export interface PodStatusStore {
  /** What is there now, from no cache; undefined when there is no pod of that name. Errors: of the API. */
  read(pod: PodRef, signal?: AbortSignal): Promise<PodState | undefined>;
  /**
   * A strategic merge patch of `pods/status`. `conflict`: a precondition did not hold. Errors: of the API.
   *
   * Source: calico-interop 3.7.
   */
  patch(pod: PodRef, patch: PodStatusPatch, signal?: AbortSignal): Promise<"written" | "gone" | "conflict">;
  /** The right that an error says the account lacks, as `patch on pods/status`; undefined for any other failure. */
  missingRight(error: unknown): string | undefined;
}

/** A pod of this node, as the agent's cache has it. */
export interface KnownPod {
  readonly pod: PodRef;
  readonly annotations: Readonly<Record<string, string>>;
}

/** The pods of this node. Implemented over the agent's pod informer. */
export interface KnownPods {
  /** Fulfilled when they have been listed. */
  readonly synced: Promise<void>;
  list(): Iterable<KnownPod>;
}

/**
 * What became of a try: written; nothing to write (the pod is gone, or another sandbox's by now); to be tried again; not
 * allowed; forgotten, since too many others wait.
 */
export type PodStatusOutcome = "written" | "unneeded" | "failed" | "forbidden" | "dropped";

export interface PodStatusMetrics {
  podStatus(outcome: PodStatusOutcome): void;
  /** Pods whose annotations are still to be written. */
  podStatusWaiting(pods: number): void;
}

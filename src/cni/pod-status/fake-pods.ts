// SPDX-License-Identifier: Apache-2.0
import type { PodRef } from "../types.ts";
import type { KnownPod, KnownPods, PodState, PodStatusPatch, PodStatusStore } from "./ports.ts";

/** Pods at an API server that can be away, refuse, or be slow. */
export class FakePods implements PodStatusStore, KnownPods {
  readonly synced: Promise<void> = Promise.resolve();
  /** Each call, as `patch default/web-0` or `read default/web-0`. */
  readonly calls: string[] = [];
  /** Thrown by every call of these pods. */
  readonly failing: Map<string, Error> = new Map();
  away: Error | undefined;
  /** The right that everybody lacks. */
  lacking: string | undefined;
  /** What each call waits for. */
  gate: Promise<void> | undefined;
  underWay = 0;
  mostUnderWay = 0;
  /** Called before each patch is judged, as if others wrote in between. */
  beforePatch: () => void = () => {};
  readonly #pods = new Map<string, { state: PodState; version: number }>();

  set({ namespace, name, uid = "u1" }: PodRef, annotations: Readonly<Record<string, string>> = {}): void {
    const version = (this.#pods.get(`${namespace}/${name}`)?.version ?? 0) + 1;
    const state = { uid, resourceVersion: String(version), annotations };
    this.#pods.set(`${namespace}/${name}`, { state, version });
  }

  delete({ namespace, name }: PodRef): void {
    this.#pods.delete(`${namespace}/${name}`);
  }

  /** What is there, without a call. */
  find({ namespace, name }: PodRef): PodState | undefined {
    return this.#pods.get(`${namespace}/${name}`)?.state;
  }

  of(pod: PodRef): Readonly<Record<string, string>> | undefined {
    return this.find(pod)?.annotations;
  }

  async read(pod: PodRef): Promise<PodState | undefined> {
    return await this.#call("read", pod, (found) => found);
  }

  async patch(pod: PodRef, patch: PodStatusPatch): Promise<"written" | "gone" | "conflict"> {
    this.beforePatch();
    return await this.#call("patch", pod, (found) => {
      if (found === undefined) return "gone";
      const { uid = found.uid, resourceVersion = found.resourceVersion } = patch;
      if (uid !== found.uid || resourceVersion !== found.resourceVersion) return "conflict";
      this.set({ ...pod, uid }, { ...found.annotations, ...patch.annotations });
      return "written";
    });
  }

  missingRight(error: unknown): string | undefined {
    return error instanceof RangeError ? error.message : undefined;
  }

  *list(): Iterable<KnownPod> {
    for (const [key, { state }] of this.#pods) {
      const [namespace = "", name = ""] = key.split("/");
      yield { pod: { namespace, name, uid: state.uid }, annotations: state.annotations };
    }
  }

  async #call<T>(verb: string, { namespace, name }: PodRef, act: (found: PodState | undefined) => T): Promise<T> {
    const key = `${namespace}/${name}`;
    this.calls.push(`${verb} ${key}`);
    this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay);
    try {
      await this.gate;
      if (this.lacking !== undefined) throw new RangeError(this.lacking);
      const error = this.away ?? this.failing.get(key);
      if (error !== undefined) throw error;
      return act(this.#pods.get(key)?.state);
    } finally {
      this.underWay--;
    }
  }
}

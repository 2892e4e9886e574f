// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { agentPodOf, type KubePod } from "./agent-pod.ts";

function troubleOf(status: object): string {
  const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "a" }, status } as KubePod;
  return agentPodOf(pod).trouble;
}

const waiting = (reason: string, message?: string): object => ({ waiting: { reason, ...(message && { message }) } });

describe("agentPodOf()", () => {
  it("finds no trouble in a start that is under way", () => {
    const initContainerStatuses = [{ name: "install", state: waiting("ContainerCreating") }];
    expect(troubleOf({ initContainerStatuses })).toBe("");
    expect(troubleOf({ containerStatuses: [{ name: "agent", state: waiting("PodInitializing") }] })).toBe("");
    expect(troubleOf({ containerStatuses: [{ name: "agent", state: { running: {} } }] })).toBe("");
  });

  it("names the container, and what its kubelet says", () => {
    const state = waiting("ImagePullBackOff", 'Back-off pulling image "x:1"');
    expect(troubleOf({ containerStatuses: [{ name: "agent", state }] })).toBe(
      'agent: ImagePullBackOff, Back-off pulling image "x:1"',
    );
  });

  it("prefers the last words of a container that ends again and again: the file and the reason", () => {
    const state = waiting("CrashLoopBackOff", "back-off 10s restarting failed container");
    const message =
      "/opt/cni/bin/portmap: installed\ngingham-install: Cannot write /opt/cni/bin/gingham: the file system is read-only\n";
    const lastState = { terminated: { message } };
    expect(troubleOf({ initContainerStatuses: [{ name: "install", state, lastState }] })).toBe(
      "install: CrashLoopBackOff, gingham-install: Cannot write /opt/cni/bin/gingham: the file system is read-only",
    );
  });
});

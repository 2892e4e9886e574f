// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { POOL_ANNOTATIONS, type PoolWishes, resolvePools } from "./pod-pools.ts";

const pod = { namespace: "default", name: "web-0" };
const configured = { 4: ["conf-4"], 6: ["conf-6"] };

function resolve(wishes: Partial<PoolWishes>): ReturnType<typeof resolvePools> {
  return resolvePools({ pod, configured, families: [4, 6], ...wishes });
}

describe("resolvePools()", () => {
  it("asks the pod first, then the namespace, then the configuration, for each family alone", () => {
    const podAnnotations = { [POOL_ANNOTATIONS[4]]: '["pod-4", "10.0.0.0/16"]' };
    const namespaceAnnotations = { [POOL_ANNOTATIONS[4]]: '["ns-4"]', [POOL_ANNOTATIONS[6]]: '["ns-6"]' };
    expect(resolve({})).toEqual(configured);
    expect(resolve({ namespaceAnnotations })).toEqual({ 4: ["ns-4"], 6: ["ns-6"] });
    expect(resolve({ podAnnotations, namespaceAnnotations })).toEqual({ 4: ["pod-4", "10.0.0.0/16"], 6: ["ns-6"] });
    expect(resolve({ podAnnotations })).toEqual({ 4: ["pod-4", "10.0.0.0/16"], 6: ["conf-6"] });
  });

  it("passes over empty text, as one who has no annotation", () => {
    const podAnnotations = { [POOL_ANNOTATIONS[4]]: "" };
    expect(resolve({ podAnnotations, namespaceAnnotations: { [POOL_ANNOTATIONS[4]]: '["ns-4"]' } })[4]).toEqual([
      "ns-4",
    ]);
    expect(resolve({ podAnnotations })[4]).toEqual(["conf-4"]);
  });

  it.each(["pool-a", "{}", "[1]", '"pool-a"', "["])("refuses %j and names pod and annotation", (text) => {
    const wishes = { podAnnotations: { [POOL_ANNOTATIONS[4]]: text } };
    expect(() => resolve(wishes)).toThrow(/Pod default\/web-0 has annotation cni\.projectcalico\.org\/ipv4pools/);
  });

  it("refuses pools of a family that the pod does not get", () => {
    const namespaceAnnotations = { [POOL_ANNOTATIONS[6]]: '["six"]' };
    expect(() => resolve({ namespaceAnnotations, families: [4] })).toThrow(/Namespace default .* no IPv6 address/);
    expect(resolve({ families: [4] })).toEqual(configured);
  });
});

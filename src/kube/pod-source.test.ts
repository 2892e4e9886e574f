// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { PODS } from "../crds/core.ts";
import { MemoryClient } from "./memory-client.ts";
import { podSource } from "./pod-source.ts";

const ref = { namespace: "kube-system", name: "proxy-node-a" };

test("a static pod is found by the UID that the kubelet gives the runtime, which its mirror names", async () => {
  const client = new MemoryClient();
  const annotations = { "kubernetes.io/config.mirror": "hash" };
  client.seed(PODS, { apiVersion: "v1", kind: "Pod", metadata: { ...ref, uid: "m1", annotations } });
  const pods = podSource(undefined, client);
  expect(await pods.get({ ...ref, uid: "hash" })).toMatchObject({ uid: "hash", annotations });
  expect(await pods.get({ ...ref, uid: "m1" })).toBeUndefined();
  expect(await pods.get(ref)).toMatchObject({ uid: "hash" });
});

// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { NODES, PODS } from "../crds/core.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { ForbiddenError, InvalidError, UnreachableError } from "./errors.ts";
import { Informer } from "./informer.ts";
import { MemoryClient } from "./memory-client.ts";
import { projectPod } from "./pod-source.ts";
import { knownPods, kubePodStatus } from "./pod-status.ts";

const ref = { namespace: "default", name: "web-0" };
const metadata = { ...ref, uid: "u1", annotations: { kept: "yes" } };
const pod = { apiVersion: "v1", kind: "Pod", metadata, status: { phase: "Running" } };
const annotations = { "cni.projectcalico.org/podIP": "10.0.0.1/32" };
const target = { verb: "patch", resource: "pods" };

describe("kubePodStatus()", () => {
  test("adds annotations to those that are there, and touches nothing else", async () => {
    const client = new MemoryClient();
    client.seed(PODS, pod);
    const store = kubePodStatus(client);
    expect(await store.patch(ref, { uid: "u1", annotations })).toBe("written");
    expect(await store.read(ref)).toMatchObject({ uid: "u1", annotations: { kept: "yes", ...annotations } });
    expect(await client.get(PODS, "web-0", { namespace: "default" })).toMatchObject({ status: { phase: "Running" } });
    expect(client.calls[0]).toMatchObject({ verb: "patch", name: "web-0", subresource: "status" });
  });

  test("tells a pod that is gone and preconditions that do not hold from failures", async () => {
    const client = new MemoryClient();
    client.seed(PODS, pod);
    const store = kubePodStatus(client);
    const gone = { ...ref, name: "gone" };
    expect([await store.read(gone), await store.patch(gone, { annotations })]).toEqual([undefined, "gone"]);
    expect(await store.patch(ref, { uid: "u2", annotations })).toBe("conflict");
    expect(await store.patch(ref, { uid: "u1", resourceVersion: "1", annotations })).toBe("conflict");
    // As Kubernetes answers a patch that would change the UID.
    const causes = [{ reason: "FieldValueInvalid", field: "metadata.uid", message: "field is immutable" }];
    client.onCall = () => ({ kind: "fail", error: new InvalidError(target, { status: 422, causes }) });
    expect(await store.patch(ref, { uid: "u2", annotations })).toBe("conflict");
    client.onCall = () => ({ kind: "fail", error: new InvalidError(target, { status: 422 }) });
    await expect(store.patch(ref, { annotations })).rejects.toBeInstanceOf(InvalidError);
  });

  test("names the right that is missing", () => {
    const store = kubePodStatus(new MemoryClient());
    expect(store.missingRight(new ForbiddenError(target, { status: 403 }))).toBe("patch on pods/status");
    expect(store.missingRight(new ForbiddenError({ ...target, verb: "get" }, { status: 403 }))).toBe("get on pods");
    expect(store.missingRight(new ForbiddenError(target, { status: 401 }))).toBeUndefined();
    expect(store.missingRight(new UnreachableError(target, "no route"))).toBeUndefined();
  });
});

test("knownPods() lists the cache", async () => {
  const client = new MemoryClient();
  client.seed(PODS, pod);
  client.seed(NODES, { apiVersion: "v1", kind: "Node", metadata: { name: "a" } });
  const informer = new Informer({
    client,
    resource: PODS,
    project: projectPod,
    clock: new FakeClock(),
    random: () => 0,
  });
  informer.start();
  const known = knownPods(informer);
  await known.synced;
  expect([...known.list()]).toEqual([{ pod: { ...ref, uid: "u1" }, annotations: { kept: "yes" } }]);
  await informer.stop();
});

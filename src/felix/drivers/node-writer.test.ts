// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import type { Node, Taint } from "../../crds/core.ts";
import { fakeNode } from "../fake-resources.ts";
import { NodeWriter } from "./node-writer.ts";

/** As the API server: a write of what somebody else has changed meanwhile is a conflict. */
function server(...taints: readonly Taint[]) {
  let stored: Node = { ...fakeNode("n", []), metadata: { name: "n", resourceVersion: "1" }, spec: { taints } };
  let conflicts = 0;
  const replace = async (node: Node): Promise<void> => {
    await Promise.resolve();
    if (node.metadata.resourceVersion !== stored.metadata.resourceVersion) {
      conflicts++;
      throw new Error("conflict");
    }
    const resourceVersion = String(Number(stored.metadata.resourceVersion) + 1);
    stored = { ...node, metadata: { ...node.metadata, resourceVersion } };
  };
  return {
    port: {
      get: async () => stored,
      updateStatus: (node: Node) => replace(node),
      setTaints: (node: Node, taints: readonly Taint[]) => replace({ ...node, spec: { taints } }),
    },
    taints: () => stored.spec?.taints,
    annotations: () => stored.metadata.annotations,
    conflicts: () => conflicts,
  };
}

const annotate = (key: string) => (node: Node) => ({
  ...node,
  metadata: { ...node.metadata, annotations: { ...node.metadata.annotations, [key]: "x" } },
});

test("edit() lets no two edits of the process meet, and none is lost", async () => {
  const { port, annotations, conflicts } = server();
  const writer = new NodeWriter(port);
  const keys = Array.from({ length: 10 }, (_, i) => `k${i}`);
  await Promise.all(keys.map((key) => writer.edit(annotate(key))));
  expect(Object.keys(annotations() ?? {})).toEqual(keys);
  expect(conflicts()).toBe(0);
});

test("edit() writes nothing for undefined, and one that fails does not stop the next", async () => {
  const { port, annotations } = server();
  const writer = new NodeWriter(port);
  const failing = writer.edit(() => {
    throw new Error("no");
  });
  const idle = writer.edit(() => undefined);
  const last = writer.edit(annotate("a"));
  await expect(failing).rejects.toThrow("no");
  expect([await idle, await last]).toEqual([false, true]);
  expect(annotations()).toEqual({ a: "x" });
});

test("removeTaint() takes all of the key, leaves others as they are, and writes nothing when there is none", async () => {
  const other = { key: "dedicated", value: "gpu", effect: "NoSchedule" };
  const taint = { key: "gingham.dev/agent-not-ready", effect: "NoSchedule" };
  const { port, taints, conflicts } = server(taint, other, { ...taint, effect: "NoExecute" });
  const writer = new NodeWriter(port);
  const [first, , second] = await Promise.all([
    writer.removeTaint(taint.key),
    writer.edit(annotate("a")),
    writer.removeTaint(taint.key),
  ]);
  expect([first, second, conflicts()]).toEqual([true, false, 0]);
  expect(taints()).toEqual([other]);
});

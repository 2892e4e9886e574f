// SPDX-License-Identifier: Apache-2.0
import { expect, it } from "vitest";
import type { Node } from "../crds/core.ts";
import { isNodeDown, isNodeReady } from "./node-conditions.ts";

it.each([
  ["True", { isReady: true, isDown: false }],
  // Also a node that waits for its network.
  ["False", { isReady: false, isDown: false }],
  ["Unknown", { isReady: false, isDown: true }],
  [undefined, { isReady: false, isDown: true }],
])("Ready: %s", (status, expected) => {
  const conditions = status === undefined ? [] : [{ type: "Ready", status }];
  const said = { addresses: [], conditions };
  const node: Node = { apiVersion: "v1", kind: "Node", metadata: { name: "a" }, status: said };
  expect({ isReady: isNodeReady(node), isDown: isNodeDown(node) }).toEqual(expected);
});

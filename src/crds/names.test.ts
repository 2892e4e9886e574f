// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parseCIDR } from "../net/cidr.ts";
import { affinityName, blockName, handleName } from "./names.ts";

test.each([
  ["10.0.0.0/26", "10-0-0-0-26"],
  ["fd00:10:244::/122", "fd00-10-244---122"],
  ["FD00:0010:0244:0:0:0:0:0/122", "fd00-10-244---122"],
])("blockName(%s) is %s", (cidr, name) => {
  expect(blockName(parseCIDR(cidr))).toBe(name);
});

test("affinityName() is node and block, without the type", () => {
  expect(affinityName("worker-1", parseCIDR("10.0.0.0/26"))).toBe("worker-1-10-0-0-0-26");
});

test("affinityName() of 252 characters is whole, of 253 is cut and hashed", () => {
  const cidr = parseCIDR("10.0.0.0/26");
  expect(affinityName("n".repeat(240), cidr)).toBe(`${"n".repeat(240)}-10-0-0-0-26`);
  const cut = affinityName("n".repeat(241), cidr);
  expect(cut).toHaveLength(252);
  expect(cut).toMatch(/^n{228}-10-0-0-0-26-[0-9a-f]{11}$/);
});

test("affinityName() of a node of 250 characters carries SHA-256 of node and block", () => {
  // The digits are those of Python's hashlib.
  const name = affinityName("n".repeat(250), parseCIDR("10.0.0.0/26"));
  expect(name).toBe(`${"n".repeat(228)}-10-0-0-0-26-f1d50507857`);
});

test("handleName() is the handle in lower case, whatever its length", () => {
  expect(handleName("lb-AbC")).toBe("lb-abc");
  expect(handleName(`k8s-pod-network.${"A".repeat(64)}`)).toBe(`k8s-pod-network.${"a".repeat(64)}`);
});

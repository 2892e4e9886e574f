// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parseCIDR } from "../net/cidr.ts";
import { affinityLabels, affinitySelector, hostnameHash } from "./labels.ts";

test.each([
  // By Python: base64.b32encode(hashlib.sha3_256(name).digest()) without "=".
  ["node-1", "A3XPYDATRKB7Q4SM2O5FN4RXIHBFIL2PITFX26BAIP5XAB2X74CA"],
  ["worker-1.example.com", "UE36CLG64JYCBIZ4GG5GGSU64SD6V4CO3FT6ASG7MUYKU55EDVZA"],
  ["Äpfel", "QIEM4GQ55DZKMMFROHGYSGB7C7ZHXBSH5KQSAO6ISZEVDINUCAPQ"],
])("hostnameHash(%s) is what an independent implementation gives", (name, hash) => {
  expect(hostnameHash(name)).toBe(hash);
});

test("hostnameHash() is a label's value: 52 upper-case characters without padding", () => {
  for (const name of ["", "node-1", "n".repeat(253)]) expect(hostnameHash(name)).toMatch(/^[A-Z2-7]{52}$/);
});

test("affinityLabels() name host, type and family", () => {
  expect(affinityLabels("node-1", parseCIDR("fd00::/122"))).toEqual({
    "projectcalico.org/hostname-hash": hostnameHash("node-1"),
    "projectcalico.org/affinity-type": "host",
    "projectcalico.org/ip-version": "6",
  });
});

test("affinitySelector() selects what affinityLabels() writes", () => {
  const labels = affinityLabels("node-1", parseCIDR("10.0.0.0/26"), "virtual");
  const selector = affinitySelector("node-1", 4, "virtual");
  expect(selector.split(",").sort()).toEqual(
    Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .sort(),
  );
});

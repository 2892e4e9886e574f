// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { FELIX_CONFIGURATION_KIND, type FelixConfiguration } from "../crds/felix-configuration.ts";
import { resolveConfig } from "./config.ts";

const FIELDS = Object.keys(FELIX_CONFIGURATION_KIND.spec.properties ?? {});
const NAMES = ["default", "node.node-a", "node.node-b", "gpu"];

const value = fc.oneof(
  fc.jsonValue(),
  fc.integer({ min: -10, max: 70_000 }),
  fc.constantFrom("90s", "2m", "Info", "CalicoIPAM", "IPPoolsOnly", "1000:2000", "192.0.2.1", "^eth", ""),
);
const spec = fc.dictionary(fc.constantFrom(...FIELDS, "bpfEnabled", "nodeSelector", "externalNodesList"), value);
const objects = fc.uniqueArray(
  fc.record({ name: fc.constantFrom(...NAMES), spec }).map(({ name, spec: given }) => configuration(name, given)),
  { selector: ({ metadata }) => metadata.name },
);

function configuration(name: string, given: FelixConfiguration["spec"]): FelixConfiguration {
  return { apiVersion: "crd.projectcalico.org/v1", kind: "FelixConfiguration", metadata: { name }, spec: given };
}

const LOCAL = { args: [], env: {}, hostName: "node-a" };

test("whatever the objects say, in whatever order, there are settings, and each wrong field costs only itself", () => {
  fc.assert(
    fc.property(objects, (all) => {
      const { config, findings, inForce } = resolveConfig(LOCAL, all);
      const reversed = resolveConfig(LOCAL, all.toReversed());
      expect(reversed).toEqual({ config, findings, inForce });

      // Without the values that are told to be ignored, all is the same, and nothing is told to be ignored.
      const ignored = new Set(findings.filter(({ code }) => code === "ConfigIgnored").map(({ subject }) => subject));
      const rest = all.map(({ metadata: { name }, spec: given }) => {
        const kept = Object.entries(given).filter(([field]) => !ignored.has(`FelixConfiguration ${name}: ${field}`));
        return configuration(name, Object.fromEntries(kept));
      });
      const again = resolveConfig(LOCAL, rest);
      expect(again.config).toEqual(config);
      expect(again.inForce).toEqual(inForce);
      expect(again.findings.filter(({ code }) => code === "ConfigIgnored")).toEqual([]);
    }),
  );
});

test("a value that holds is the first that can be used: each is from this node's object, or default's", () => {
  fc.assert(
    fc.property(objects, (all) => {
      for (const { option } of resolveConfig(LOCAL, all).inForce.values())
        expect(option).toMatch(/^FelixConfiguration (default|node\.node-a): /);
    }),
  );
});

// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { load } from "js-yaml";
import { expect, test } from "vitest";
import { renderCRD } from "../src/crds/definition.ts";
import { KINDS } from "../src/crds/kinds.ts";
import { differences, renderManifests } from "./crd-manifests.ts";

const folder = join(dirname(dirname(fileURLToPath(import.meta.url))), "manifests", "crds");

test("manifests/crds is what npm run gen writes", () => {
  const found = new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "utf8")]));
  expect(differences(found, renderManifests())).toEqual([]);
});

test("renderManifests() says in YAML what renderCRD() says", () => {
  const manifests = renderManifests();
  for (const kind of KINDS) {
    const text = manifests.get(`${kind.resource.plural}.yaml`) ?? "";
    expect(load(text)).toEqual(JSON.parse(JSON.stringify(renderCRD(kind))));
  }
});

test("differences() names changed, missing and surplus files", () => {
  const found = new Map(Object.entries({ a: "1", b: "1", c: "1" }));
  expect(differences(found, new Map(Object.entries({ a: "1", b: "2", d: "1" })))).toEqual(["b", "c", "d"]);
});

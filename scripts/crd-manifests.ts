// SPDX-License-Identifier: Apache-2.0
import { dump } from "js-yaml";
import { renderCRD } from "../src/crds/definition.ts";
import { KINDS } from "../src/crds/kinds.ts";

const HEADER = "# SPDX-License-Identifier: Apache-2.0\n# Generated from src/crds by npm run gen. Do not edit.\n";

/** Text of every manifest by file name. */
export function renderManifests(): Map<string, string> {
  return new Map(
    KINDS.map((kind) => [
      `${kind.resource.plural}.yaml`,
      HEADER + dump(renderCRD(kind), { noRefs: true, lineWidth: 120 }),
    ]),
  );
}

/** Names of the files that are missing, differ, or should not be there. */
export function differences(found: ReadonlyMap<string, string>, wanted: ReadonlyMap<string, string>): string[] {
  const names = new Set([...found.keys(), ...wanted.keys()]);
  return [...names].filter((name) => found.get(name) !== wanted.get(name)).sort();
}

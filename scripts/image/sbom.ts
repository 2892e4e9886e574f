// SPDX-License-Identifier: Apache-2.0
// Prints the image's bill of materials: CycloneDX 1.5 of the npm packages in the bundles, with their licences, and of Debian's packages.
// Run in the build of the image, so it imports nothing but Node's own modules.
//
//   node sbom.ts package.json third-party.json packages
import { readFileSync } from "node:fs";

/** A package whose code is in the bundles. */
export interface ThirdParty {
  readonly name: string;
  readonly version: string;
  /** SPDX expression. */
  readonly license: string;
}

/** Pure, and the same for the same input: no serial number, no time. */
export function renderSBOM(
  version: string,
  thirdParty: readonly ThirdParty[],
  debian: readonly DebianPackage[],
): object {
  return {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: { component: { type: "container", "bom-ref": "gingham", name: "gingham", version } },
    components: [
      ...thirdParty.map(({ name, version, license }) => ({
        type: "library",
        "bom-ref": `pkg:npm/${name.replace("@", "%40")}@${version}`,
        name,
        version,
        purl: `pkg:npm/${name.replace("@", "%40")}@${version}`,
        licenses: [{ expression: license }],
      })),
      ...debian.map(({ name, version, architecture }) => {
        const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}&distro=debian-12`;
        return { type: "library", "bom-ref": purl, name, version, purl };
      }),
    ],
  };
}

export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
}

/** Lines of `name version architecture`, as dpkg-query prints them. */
export function parsePackages(text: string): readonly DebianPackage[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [name = "", version = "", architecture = ""] = line.split(" ");
      return { name, version, architecture };
    });
}

if (import.meta.main) {
  const [manifest = "", thirdParty = "", packages = ""] = process.argv
    .slice(2)
    .map((path) => readFileSync(path, "utf8"));
  const { version } = JSON.parse(manifest) as { version: string };
  const sbom = renderSBOM(version, JSON.parse(thirdParty) as ThirdParty[], parsePackages(packages));
  process.stdout.write(`${JSON.stringify(sbom, undefined, 1)}\n`);
}

// SPDX-License-Identifier: Apache-2.0
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { loadAll } from "js-yaml";
import { describe, expect, test } from "vitest";
import { LAYOUTS } from "../src/install/layouts.ts";
import { renderInstallManifests } from "./install-manifests.ts";

const ROOT = join(import.meta.dirname, "..");
const wanted = renderInstallManifests();

interface Parsed {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

function objectsOf(text: string | undefined): readonly Parsed[] {
  return loadAll(text ?? "") as Parsed[];
}

const keyOf = ({ kind, metadata }: Parsed): string => `${kind} ${metadata.namespace ?? ""}/${metadata.name}`;

describe("manifests/", () => {
  test.each([...wanted.keys()])("%s is what npm run gen writes", (file) => {
    expect(readFileSync(join(ROOT, "manifests", file), "utf8")).toBe(wanted.get(file));
  });

  test("install.yaml is the base in one file, and begins with the namespace", () => {
    const files = globSync("manifests/base/*.yaml", { cwd: ROOT }).filter((file) => !file.includes("kustomization"));
    const base = files.flatMap((file) => objectsOf(readFileSync(join(ROOT, file), "utf8")));
    const whole = objectsOf(wanted.get("install.yaml"));
    expect(whole.map(keyOf).toSorted()).toEqual(base.map(keyOf).toSorted());
    expect(keyOf(whole[0] as Parsed)).toBe("Namespace /gingham-system");
    for (const kind of ["CustomResourceDefinition", "DaemonSet", "Deployment", "ClusterRole", "NetworkPolicy"])
      expect(whole.map((object) => object.kind)).toContain(kind);
  });

  test("each distribution's overlay names its folders, and no other is left", () => {
    for (const { name, binDir, confDir } of LAYOUTS) {
      const text = wanted.get(`overlays/${name}/kustomization.yaml`) ?? "";
      const values = [...text.matchAll(/value: (\/.*)$/gm)].map(([, value]) => value);
      // Bin: two variables, two mounts, one volume. Conf: one of each.
      expect(values.filter((value) => value === binDir)).toHaveLength(5);
      expect(values.filter((value) => value === confDir)).toHaveLength(confDir === "/etc/cni/net.d" ? 0 : 3);
    }
  });
});

test("Talos gets no plugin that its hosts could not run", () => {
  const text = wanted.get("overlays/talos/kustomization.yaml") ?? "";
  expect(text).toMatch(/path: \/spec\/template\/spec\/initContainers\/0\/env\/1\/value\n *value: OursOnly\n/);
  expect([...text.matchAll(/"type": "([\w-]+)"/g)].map(([, type]) => type)).toEqual([
    "gingham",
    "gingham-ipam",
    "portmap",
  ]);
});

describe("docs/install.md", () => {
  const text = readFileSync(join(ROOT, "docs/install.md"), "utf8");

  test.each(LAYOUTS)("names the folders of $title", ({ name, title, confDir, binDir }) => {
    const row = text.split("\n").find((line) => line.startsWith(`| ${title} |`));
    for (const word of [`\`${confDir}\``, `\`${binDir}\``, `overlays/${name}`]) expect(row).toContain(word);
  });
});

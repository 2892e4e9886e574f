// SPDX-License-Identifier: Apache-2.0
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { load, loadAll } from "js-yaml";
import { describe, expect, test } from "vitest";
import { REVISION_ANNOTATION } from "../src/operator/render/agent.ts";
import { toTemplate } from "./helm-chart.ts";

const MANIFESTS = join(import.meta.dirname, "../manifests");
const CHART = join(MANIFESTS, "helm");
const read = (path: string): string => readFileSync(path, "utf8");

type Values = Readonly<Record<string, unknown>>;
interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: { readonly template?: { readonly metadata: { annotations?: Record<string, string> } } };
}

/** What Helm does with the two kinds of template that npm run gen writes; blocks of people's own count as empty. */
function render(template: string, values: Values): string {
  return template
    .replace(
      /\s*\{\{- (?:with|range) \.Values\.(\w+) \}\}\n([\s\S]*?)\{\{- end \}\}/g,
      (_, name: string, body: string) => {
        const list = values[name] as readonly unknown[];
        return list.length === 0 ? "" : `\n${body.replace("{{ toJson . }}", JSON.stringify(list)).trimEnd()}`;
      },
    )
    .replace(/\{\{ \.Values\.(\w+) \| quote \}\}/g, (_, name: string) => JSON.stringify(values[name]));
}

function objectsOf(text: string): readonly Rendered[] {
  return (loadAll(text) as (Rendered | null)[]).filter((object) => object !== null);
}

function renderChart(values: Values): readonly Rendered[] {
  return globSync("{crds,templates}/*.yaml", { cwd: CHART }).flatMap((file) =>
    objectsOf(render(read(join(CHART, file)), values)),
  );
}

const byName = (objects: readonly Rendered[]): ReadonlyMap<string, Rendered> =>
  new Map(objects.map((object) => [`${object.kind} ${object.metadata.name}`, object]));

/** The chart's has none: a template cannot hash itself, and Kubernetes sees changes without. */
function withoutRevision(objects: readonly Rendered[]): readonly Rendered[] {
  for (const object of objects) {
    const { annotations } = object.spec?.template?.metadata ?? {};
    if (annotations === undefined) continue;
    expect(Object.keys(annotations)).toEqual([REVISION_ANNOTATION]);
    delete object.spec?.template?.metadata.annotations;
  }
  return objects;
}

describe("the Helm chart", () => {
  const defaults = load(read(join(CHART, "values.yaml"))) as Values;

  test("makes without any value what manifests/install.yaml has", () => {
    const wanted = withoutRevision(objectsOf(read(join(MANIFESTS, "install.yaml"))));
    expect(wanted.length).toBeGreaterThan(20);
    expect(byName(renderChart(defaults))).toEqual(byName(wanted));
  });

  test("puts each value wherever it belongs", () => {
    const secrets = [{ name: "registry" }];
    const values = { ...defaults, image: "r/g:1", binDir: "/x/bin", confDir: "/x/net.d", imagePullSecrets: secrets };
    const text = JSON.stringify(renderChart(values));
    for (const name of ["image", "binDir", "confDir"] as const) {
      expect(text).not.toContain(JSON.stringify(defaults[name]));
      expect(text).toContain(JSON.stringify(values[name]));
    }
    expect(text.split(`"imagePullSecrets":${JSON.stringify(secrets)}`)).toHaveLength(3);
  });

  test("has a schema that knows every value and no other", () => {
    const schema = JSON.parse(read(join(CHART, "values.schema.json"))) as { properties: object };
    const named = Object.keys(schema.properties).filter((name) => name !== "global");
    expect(named.toSorted()).toEqual(Object.keys(defaults).toSorted());
    const used = globSync("templates/*.yaml", { cwd: CHART }).flatMap((file) =>
      [...read(join(CHART, file)).matchAll(/\.Values\.(\w+)/g)].map(([, name]) => name),
    );
    expect(new Set(used)).toEqual(new Set(named));
  });
});

describe("toTemplate()", () => {
  test("refuses a mark that no template stands for", () => {
    expect(toTemplate("a: HELM_image\n")).toBe("a: {{ .Values.image | quote }}\n");
    expect(() => toTemplate("a: x/HELM_image\n")).toThrow("stands where no template does");
  });
});

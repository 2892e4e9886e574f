// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { CNI_CODE } from "../../src/cni/errors.ts";
import { createControllerMetrics } from "../../src/controller/metrics.ts";
import { createMetrics } from "../../src/felix/metrics.ts";
import { COUNTERS } from "../../src/felix/nft/layout.ts";
import { createOperatorMetrics } from "../../src/operator/metrics.ts";

/** What the programs tell, what docs/operate.md says of it, and what the dashboard asks for. */

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string }[];
}

const dashboard = JSON.parse(readFileSync("manifests/grafana-dashboard.json", "utf8")) as {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly definition?: string }[] };
};
const queries = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
const documented = tableOf(readFileSync("docs/operate.md", "utf8"));
const types = new Map([
  ...typesIn(await createMetrics("node").text()),
  ...typesIn(await createControllerMetrics().text()),
  ...typesIn(await createOperatorMetrics().text()),
]);

const METRIC = /\b(?:felix|gingham|ipam|process)_[a-z_]+\b/g;

/** Name to type: gauge, counter, histogram or summary. */
function typesIn(text: string): readonly (readonly [name: string, type: string])[] {
  return [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = "", type = ""]) => [name, type]);
}

/** Name to labels, of the table of metrics. */
function tableOf(doc: string): ReadonlyMap<string, readonly string[]> {
  const section = doc.slice(doc.indexOf("\n## Metrics\n")).split("\n## ", 2)[1] ?? "";
  const found = section.matchAll(/`((?:felix|gingham|ipam|process)_\w+)(?:\{([\w,]+)\})?`/g);
  return new Map(
    [...found].map(([, name = "", labels = ""]) => [name, labels.split(",").filter((label) => label !== "")]),
  );
}

/** The metric of a series that a histogram or summary makes. */
function metricOf(series: string): string {
  const base = series.replace(/_(?:bucket|sum|count)$/, "");
  return types.has(series) ? series : base;
}

/** Counters without a single series, whose first step no rate() or increase() would see. */
function countersWithout(text: string): readonly string[] {
  const series = new Set([...text.matchAll(/^([a-z_]+)(?:\{| )/gm)].map(([, name]) => name));
  return typesIn(text).flatMap(([name, type]) => (type === "counter" && !series.has(name) ? [name] : []));
}

describe("metrics", () => {
  test("each counter is there before the first thing is counted", async () => {
    expect(countersWithout(await createMetrics("node").text())).toEqual([]);
    expect(countersWithout(await createControllerMetrics().text())).toEqual(["ipam_allocations_gc_reclamations"]);
    expect(countersWithout(await createOperatorMetrics().text())).toEqual([]);
  });

  test("each code with which an ADD or DEL may fail is there, and each reason to drop a packet", async () => {
    const text = await createMetrics("node").text();
    for (const command of ["ADD", "DEL"])
      for (const code of Object.values(CNI_CODE))
        expect(text).toContain(`gingham_cni_requests_total{command="${command}",code="${code}"} 0`);
    for (const counter of Object.values(COUNTERS))
      expect(text).toContain(`gingham_dropped_packets_total{counter="${counter}"} 0`);
  });

  test("all are in docs/operate.md, and all that is there exists", () => {
    expect([...documented.keys()].toSorted()).toEqual([...types.keys()].toSorted());
  });
});

describe("manifests/grafana-dashboard.json", () => {
  test("asks for more than a few things, and has each panel once", () => {
    expect(queries.length).toBeGreaterThan(25);
    for (const key of ["id", "title"] as const)
      expect(new Set(dashboard.panels.map((panel) => panel[key])).size).toBe(dashboard.panels.length);
    const corners = dashboard.panels.map(({ gridPos: { x, y } }) => `${x} ${y}`);
    expect(new Set(corners).size).toBe(corners.length);
    expect(dashboard.panels.every(({ gridPos: { x, w } }) => x + w <= 24)).toBe(true);
  });

  test.each([
    ...queries,
    ...dashboard.templating.list.map(({ definition = "" }) => ({ title: "variable", expr: definition })),
  ])("$title: $expr asks for metrics that exist", ({ expr }) => {
    const unknown = [...expr.matchAll(METRIC)].map(([series]) => metricOf(series)).filter((name) => !types.has(name));
    expect(unknown).toEqual([]);
  });

  test.each(queries)("$title: $expr knows what is a counter", ({ expr }) => {
    for (const [, call = "", series = ""] of expr.matchAll(
      /(?:(rate|increase)\()?\b((?:felix|gingham|ipam)_[a-z_]+)\b/g,
    )) {
      const type = types.get(metricOf(series));
      const isCumulative = type === "counter" || metricOf(series) !== series;
      expect({ series, isCounted: call !== "" }).toEqual({ series, isCounted: isCumulative });
    }
    for (const [, series = ""] of expr.matchAll(/(\w+)_bucket/g)) expect(types.get(series)).toBe("histogram");
  });

  test.each(queries)("$title: $expr goes by labels that there are", ({ expr }) => {
    const names = [...expr.matchAll(METRIC)].map(([series]) => metricOf(series));
    // Prometheus adds the agent's address, and a histogram has its bounds.
    const labels = new Set([
      "instance",
      "le",
      "ippool",
      "node",
      ...names.flatMap((name) => documented.get(name) ?? []),
    ]);
    const used = [...expr.matchAll(/(?:by|on) \(([^)]*)\)/g)].flatMap(([, list = ""]) => list.split(/, */));
    expect(used.filter((label) => !labels.has(label))).toEqual([]);
  });
});

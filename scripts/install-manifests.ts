// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { dump } from "js-yaml";
import { renderCRD } from "../src/crds/definition.ts";
import { KINDS, OPERATOR_KINDS } from "../src/crds/kinds.ts";
import { LAYOUTS, type Layout } from "../src/install/layouts.ts";
import { renderCNIConfig, renderConflist } from "../src/operator/render/conflist.ts";
import type { Manifest } from "../src/operator/render/manifest.ts";
import { AGENT, CNI_CONFIG_KEY, NAME_LABEL, NAMESPACE } from "../src/operator/render/names.ts";
import { renderOperator } from "../src/operator/render/operator.ts";
import { renderInstall, renderNamespace, renderPrivilegedSCC } from "../src/operator/render/render.ts";
import { type CNISettings, DEFAULT_SETTINGS, type InstallSettings } from "../src/operator/render/settings.ts";
import { CHART_SETTINGS, toTemplate } from "./helm-chart.ts";

const HEADER =
  "# SPDX-License-Identifier: Apache-2.0\n# Generated from src/operator/render by npm run gen. Do not edit.\n";
const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../package.json"), "utf8")) as {
  version: string;
};
/** Nobody's registry: an image that was imported into the nodes' runtimes, or that kustomize gives another name. */
const IMAGE = `localhost/gingham:${version}`;
const SETTINGS: InstallSettings = { ...DEFAULT_SETTINGS, image: IMAGE };

/** Text of each manifest by its path under manifests/. */
export function renderInstallManifests(): ReadonlyMap<string, string> {
  const crds = KINDS.map(renderCRD);
  const { "namespace.yaml": namespace = [], ...parts } = partsOf(SETTINGS);
  const base = { "namespace.yaml": namespace, "crds.yaml": crds, ...parts };
  const kustomization = { resources: Object.keys(base), images: [{ name: IMAGE.replace(/:.*/, ""), newTag: version }] };
  return new Map([
    ...Object.entries(base).map(([file, documents]) => [`base/${file}`, yaml(documents)] as const),
    ["base/kustomization.yaml", yaml([{ ...KUSTOMIZATION, ...kustomization }])],
    ["install.yaml", yaml(Object.values(base).flat())],
    // The other kinds the operator makes: who deletes this file must not delete every address with it.
    ["operator.yaml", yaml([...OPERATOR_KINDS.map(renderCRD), ...renderOperator(SETTINGS)])],
    ["clean.yaml", yaml([renderNamespace(NAMESPACE), cleaner()])],
    ...LAYOUTS.flatMap(overlayOf),
    ["overlays/dual-stack/kustomization.yaml", yaml([dualStack()])],
    ["overlays/talos/kustomization.yaml", yaml([talos()])],
    ["helm/Chart.yaml", yaml([chart()])],
    ...Object.entries(partsOf(CHART_SETTINGS)).map(
      ([file, documents]) => [`helm/templates/${file}`, toTemplate(yaml(documents))] as const,
    ),
  ]);
}

/** Everything but the CRDs, by file. */
function partsOf(settings: InstallSettings): Readonly<Record<string, readonly object[]>> {
  const objects = renderInstall(settings);
  const of = (name: string): readonly Manifest[] => objects.filter((object) => partOf(object) === name);
  return {
    "namespace.yaml": [renderNamespace(NAMESPACE)],
    "access.yaml": of("access"),
    "agent.yaml": of("agent"),
    "controller.yaml": of("controller"),
  };
}

function chart(): object {
  const description = "A Calico-style container network for Kubernetes";
  return { apiVersion: "v2", name: "gingham", description, type: "application", version, appVersion: version };
}

const KUSTOMIZATION = { apiVersion: "kustomize.config.k8s.io/v1beta1", kind: "Kustomization" };

function partOf({ kind, metadata }: Manifest): "access" | "agent" | "controller" {
  if (kind === "DaemonSet" || kind === "ConfigMap") return "agent";
  return kind === "Deployment" && metadata.name !== AGENT ? "controller" : "access";
}

function yaml(documents: readonly object[]): string {
  // Through JSON, which leaves out what is undefined, as the API does.
  const texts = documents.map((document) =>
    dump(JSON.parse(JSON.stringify(document)), { noRefs: true, lineWidth: 120 }),
  );
  return HEADER + texts.join("---\n");
}

/** The runtime's folders, wherever the DaemonSet names them. */
function overlayOf(layout: Layout): (readonly [string, string])[] {
  const folder = `overlays/${layout.name}`;
  const isOpenShift = layout.name === "openshift";
  const { binDir, confDir } = layout;
  const kustomization = {
    ...KUSTOMIZATION,
    resources: ["../../base", ...(isOpenShift ? ["scc.yaml"] : [])],
    patches: [agentPatch({ binDir, confDir })],
  };
  return [
    [`${folder}/kustomization.yaml`, yaml([kustomization])],
    ...(isOpenShift ? [[`${folder}/scc.yaml`, yaml([renderPrivilegedSCC()])] as const] : []),
  ];
}

/** What of the DaemonSet becomes another with these settings. */
function agentPatch(changes: Partial<CNISettings>): object {
  const [before, after] = [SETTINGS, { ...SETTINGS, cni: { ...SETTINGS.cni, ...changes } }].map(agentOf);
  const patch = differences(before, after, "").map(({ path, value }) => ({ op: "replace", path, value }));
  return { target: { kind: "DaemonSet", name: AGENT }, patch: dump(patch, { lineWidth: 200 }) };
}

/** `gingham node clean` on every node, with the agent's view of it, and the folders of the runtime to be written to. */
function cleaner(): object {
  const name = "gingham-clean";
  const labels = { [NAME_LABEL]: name };
  const { spec } = agentOf(SETTINGS) as { spec: { template: { spec: { containers: readonly Container[] } } } };
  const {
    initContainers: _none,
    serviceAccountName: _nobody,
    ...pod
  } = spec.template.spec as Readonly<Record<string, unknown>>;
  const [agent] = spec.template.spec.containers;
  const volumeMounts = agent?.volumeMounts
    .filter(({ name: volume }) => volume !== CONFIG_VOLUME)
    .map((mount) => ({ ...mount, readOnly: undefined }));
  const volumes = (pod["volumes"] as readonly { name: string }[]).filter((volume) => volume.name !== CONFIG_VOLUME);
  const container = {
    name: "clean",
    image: IMAGE,
    // Ready is who has cleaned; it is there until the DaemonSet is deleted.
    command: ["sh", "-c", "gingham node clean --yes && touch /tmp/done && exec sleep infinity"],
    securityContext: agent?.securityContext,
    readinessProbe: { exec: { command: ["test", "-e", "/tmp/done"] }, periodSeconds: 2 },
    volumeMounts,
  };
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name, namespace: NAMESPACE, labels },
    spec: {
      selector: { matchLabels: labels },
      updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "100%" } },
      template: {
        metadata: { labels },
        spec: { ...pod, automountServiceAccountToken: false, containers: [container], volumes },
      },
    },
  };
}

interface Container {
  readonly securityContext: object;
  readonly volumeMounts: readonly { readonly name: string; readonly readOnly?: boolean }[];
}

const CONFIG_VOLUME = "cni-config";

function agentOf(settings: InstallSettings): unknown {
  return JSON.parse(JSON.stringify(renderInstall(settings).find(({ kind }) => kind === "DaemonSet")));
}

/** Leaves that differ, by JSON pointer. */
function differences(a: unknown, b: unknown, path: string): readonly { path: string; value: unknown }[] {
  if (typeof a !== "object" || a === null || typeof b !== "object" || b === null)
    return a === b ? [] : [{ path, value: b }];
  return Object.keys(b).flatMap((key) => {
    const pointer = `${path}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`;
    return differences((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key], pointer);
  });
}

function dualStack(): object {
  const patch = conflistPatch(renderConflist({ ...SETTINGS.cni, families: [4, 6] }));
  return { ...KUSTOMIZATION, resources: ["../../base"], patches: [patch] };
}

/** Its hosts have musl, with which the reference plugins do not run, and some plugins of their own: no bandwidth. */
function talos(): object {
  const conflist = renderConflist(SETTINGS.cni) as { readonly plugins: readonly { readonly type: string }[] };
  const plugins = conflist.plugins.filter(({ type }) => type !== "bandwidth");
  const patches = [agentPatch({ install: "OursOnly" }), conflistPatch({ ...conflist, plugins })];
  return { ...KUSTOMIZATION, resources: ["../../base"], patches };
}

function conflistPatch(conflist: object): object {
  const { apiVersion, kind, metadata } = renderCNIConfig(SETTINGS.cni);
  const { name, namespace } = metadata;
  const data = { [CNI_CONFIG_KEY]: `${JSON.stringify(conflist, null, 2)}\n` };
  return { patch: dump({ apiVersion, kind, metadata: { name, namespace }, data }) };
}

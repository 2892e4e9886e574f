// SPDX-License-Identifier: Apache-2.0

/**
 * The layers of docs/DESIGN.md, as data. A file may import its own layer and those named beside it; ROOTS may import
 * anything. `import type` counts like any import: a type is a dependency for the reader, too.
 */
export type Layer = "base" | "ports" | "core" | "shell" | "adapter" | "root";

export const LAYERS: Readonly<Record<Layer, readonly Layer[]>> = {
  base: ["base"],
  ports: ["ports", "base"],
  core: ["core", "ports", "base"],
  shell: ["shell", "core", "ports", "base"],
  // IO. Adapters do not import the shell, and one adapter folder does not import another, except LIBRARIES.
  adapter: ["core", "ports", "base"],
  root: ["root", "adapter", "shell", "core", "ports", "base"],
};

/** First match wins. Patterns are prefixes of the path under src/, or regular expressions. */
const RULES: readonly (readonly [string | RegExp, Layer])[] = [
  ["main/", "root"],
  [/^cli\/(output\/|errors\.ts)/, "core"],
  // Commands construct what they need, like the entry points, and import it when they are called.
  ["cli/", "root"],
  ["net/", "base"],
  ["lib/", "base"],
  ["crds/", "base"],
  ["selector/", "base"],
  ["netlink/wire/", "base"],
  ["apiserver/", "adapter"],
  ["lab/", "adapter"],
  [/(^|\/)(ports|types)\.ts$/, "ports"],
  ["kube/api.ts", "ports"],
  ["kube/", "adapter"],
  ["netlink/", "adapter"],
  [/^ipam\/(kube|memory)-store\.ts$/, "adapter"],
  ["ipam/allocator/", "shell"],
  [/^ipam\/release/, "shell"],
  ["ipam/", "core"],
  [/^cni\/(server\/server|records\/.*store|host|http|journal\/(ring|node-journal)|delegation\/exec)/, "adapter"],
  ["cni/adopt/netns-dir.ts", "adapter"],
  ["cni/adopt/adopter", "shell"],
  ["cni/commands/", "shell"],
  ["cni/conntrack/flusher", "shell"],
  ["cni/delegation/delegate", "shell"],
  ["cni/ipam-plugin/assign", "shell"],
  [/^cni\/pod-status\/(queue|repair|write)/, "shell"],
  [
    /^cni\/(server\/socket-health|reconcile|collect\/(collect|handles|own)|standalone|executor|locks|endpoint-book|release)/,
    "shell",
  ],
  ["cni/", "core"],
  [/^controller\/(kube-source|kube-pool-source|metrics)/, "adapter"],
  [/^controller\/(collector|paced-store|reporter|pool-keeper|pool-reporter)/, "shell"],
  ["controller/", "core"],
  [/^operator\/(kube-|metrics)/, "adapter"],
  [/^operator\/(apply|removal|operator|reporter)/, "shell"],
  ["operator/", "core"],
  // The frame of an entry point: it constructs what every such program needs.
  ["program/leader.ts", "root"],
  ["program/", "core"],
  ["conformance/shapes.ts", "core"],
  ["conformance/", "shell"],
  [/^install\/(atomic-file|check-launcher|conf-dir|programs)\.ts$/, "adapter"],
  [/^install\/(conflist-keeper|plugin-versions)/, "shell"],
  ["install/", "core"],
  [/^felix\/(http|metrics|nft\/run-nft|node-address\/reach|foreign\/gather)/, "adapter"],
  ["felix/drivers/", "shell"],
  [
    /^felix\/(felix|apply-loop|config-watch|health|inputs|packet-filter|reporter|local-network|tunnels|node-address\/detector|self-test\/self-test|path-mtu\/path-probe|foreign\/watch|plan\/plan)/,
    "shell",
  ],
  ["felix/", "core"],
];

/** Adapters that other adapters stand on: the one way to the API server. */
const LIBRARIES: readonly string[] = ["kube/"];

/** @throws RangeError for a file that no rule covers, so that a new folder gets its place on purpose. */
export function layerOf(path: string): Layer {
  for (const [pattern, layer] of RULES) {
    if (typeof pattern === "string" ? path.startsWith(pattern) : pattern.test(path)) return layer;
  }
  throw new RangeError(`No layer for src/${path}: add a rule to scripts/layers.ts`);
}

/** Whether the file at `from` may import the one at `to`; both are paths under src/. */
export function mayImport(from: string, to: string): boolean {
  const [source, target] = [layerOf(from), layerOf(to)];
  if (LAYERS[source].includes(target)) return true;
  if (source !== "adapter" || target !== "adapter") return false;
  const folder = (path: string): string => path.slice(0, path.indexOf("/") + 1);
  return folder(from) === folder(to) || LIBRARIES.includes(folder(to));
}

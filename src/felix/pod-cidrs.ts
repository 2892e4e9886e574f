// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import type { Source, SourceChange } from "./ports.ts";

/** Claims with or without the nodes' networks. */
export interface PodCIDRSource extends Source<BlockAffinity> {
  /** Switches the nodes' networks on or off, while it runs. */
  route(isOn: boolean): void;
}

/**
 * Claims, and beside them the networks of the nodes (`spec.podCIDRs`) as if each node had claimed its own as a block. For
 * clusters whose addresses host-local gives: then no block says where they are.
 *
 * Source: calico-interop 3.9; Calico's route source WorkloadIPs.
 */
export function withPodCIDRs(
  nodes: Source<Node>,
  affinities: Source<BlockAffinity>,
  { isOn = true }: { readonly isOn?: boolean } = {},
): PodCIDRSource {
  let isRouted = isOn;
  const refreshes = new Set<() => void>();
  const claimsOf = (node: Node): readonly BlockAffinity[] => (isRouted ? podCIDRsOf(node) : []);
  const namesOf = (node: Node): ReadonlySet<string> => new Set(claimsOf(node).map(({ metadata }) => metadata.name));
  return {
    route: (on) => {
      if (isRouted === on) return;
      isRouted = on;
      for (const refresh of refreshes) refresh();
    },
    synced: Promise.all([nodes.synced, affinities.synced]).then(() => {}),
    *list() {
      yield* affinities.list();
      for (const node of nodes.list()) yield* claimsOf(node);
    },
    onChange(handler) {
      const known = new Map<string, ReadonlySet<string>>(
        [...nodes.list()].map((node) => [node.metadata.name, namesOf(node)]),
      );
      const onNode = ({ key, new: node }: SourceChange<Node>): void => {
        const names = node === undefined ? new Set<string>() : namesOf(node);
        for (const name of known.get(key) ?? []) if (!names.has(name)) handler({ key: name, new: undefined });
        known.set(key, names);
        if (names.size === 0) known.delete(key);
        for (const claim of node === undefined ? [] : claimsOf(node)) handler({ key: claim.metadata.name, new: claim });
      };
      const refresh = (): void => {
        for (const node of nodes.list()) onNode({ key: node.metadata.name, new: node });
      };
      refreshes.add(refresh);
      const stops = [affinities.onChange(handler), nodes.onChange(onNode), () => refreshes.delete(refresh)];
      return () => {
        for (const stop of stops) stop();
      };
    },
  };
}

/** No object of the API server has a blank in its name. */
function podCIDRsOf({ metadata: { name: node }, spec }: Node): readonly BlockAffinity[] {
  return (spec?.podCIDRs ?? []).map((cidr) => ({
    apiVersion: "crd.projectcalico.org/v1",
    kind: "BlockAffinity",
    metadata: { name: `${node} ${cidr}` },
    spec: { cidr, node, state: "confirmed", deleted: "false" },
  }));
}

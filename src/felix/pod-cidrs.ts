// SPDX-License-Identifier: Apache-2.0
import type { BlockAffinity } from "../crds/block-affinity.ts";
import type { Node } from "../crds/core.ts";
import type { Source, SourceChange } from "./ports.ts";

/**
 * Claims, and beside them the networks of the nodes (`spec.podCIDRs`) as if each node had claimed its own as a block. For
 * clusters whose addresses host-local gives: then no block says where they are.
 *
 * Source: calico-interop 3.9; Calico's route source WorkloadIPs.
 */
export function withPodCIDRs(nodes: Source<Node>, affinities: Source<BlockAffinity>): Source<BlockAffinity> {
  return {
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
      const stops = [affinities.onChange(handler), nodes.onChange(onNode)];
      return () => {
        for (const stop of stops) stop();
      };
    },
  };
}

/** No object of the API server has a blank in its name. */
function claimsOf({ metadata: { name: node }, spec }: Node): readonly BlockAffinity[] {
  return (spec?.podCIDRs ?? []).map((cidr) => ({
    apiVersion: "crd.projectcalico.org/v1",
    kind: "BlockAffinity",
    metadata: { name: `${node} ${cidr}` },
    spec: { cidr, node, state: "confirmed", deleted: "false" },
  }));
}

function namesOf(node: Node): ReadonlySet<string> {
  return new Set(claimsOf(node).map(({ metadata }) => metadata.name));
}

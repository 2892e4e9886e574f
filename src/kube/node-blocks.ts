// SPDX-License-Identifier: Apache-2.0
import type { NodeBlocks } from "../cni/node-blocks.ts";
import { IN_USE_ANNOTATION } from "../controller/projections.ts";
import { NODES } from "../crds/core.ts";
import { InvalidObjectError } from "../crds/errors.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../crds/ipam-block.ts";
import { blockName } from "../crds/names.ts";
import type { IPAMSources } from "../ipam/ports.ts";
import { parseCIDR } from "../net/cidr.ts";
import { formatIP } from "../net/ip.ts";
import type { KubeClient } from "./api.ts";
import { NotFoundError } from "./errors.ts";

const PAGE_SIZE = 100;
const TIMEOUT_MS = 60_000;

/** A node's blocks: its own by name, as its affinities tell, so that a look costs what the node has and no more. */
export function nodeBlocks(
  client: KubeClient,
  sources: IPAMSources,
  nodeName: string,
  onInvalid: (error: unknown) => void,
): NodeBlocks {
  async function* own(signal: AbortSignal): AsyncGenerator<IPAMBlock> {
    for (const { spec } of await sources.ownAffinities()) {
      try {
        yield await client.get(IPAM_BLOCKS, blockName(parseCIDR(spec.cidr)), { signal });
      } catch (error) {
        if (error instanceof InvalidObjectError) onInvalid(error);
        else if (!(error instanceof NotFoundError)) throw error;
      }
    }
  }
  async function* all(signal: AbortSignal): AsyncGenerator<IPAMBlock> {
    for await (const page of client.listPages(IPAM_BLOCKS, { limit: PAGE_SIZE, signal, timeoutMs: TIMEOUT_MS })) {
      for (const error of page.invalid) onInvalid(error);
      yield* page.items;
    }
  }
  return {
    isReady: async () => (await sources.settings()).datastoreReady,
    read: (which, signal) => (which === "own" ? own(signal) : all(signal)),
    publishInUse: async (ips, signal) => {
      const text = ips.map(formatIP).sort().join();
      try {
        const { metadata } = await client.get(NODES, nodeName, { signal });
        if ((metadata.annotations?.[IN_USE_ANNOTATION] ?? "") === text) return;
        const body = { metadata: { annotations: { [IN_USE_ANNOTATION]: text === "" ? null : text } } };
        // The right that an agent has on its own node, as Calico's has.
        await client.patch(NODES, nodeName, { type: "merge", body }, { subresource: "status", signal });
      } catch (error) {
        // A machine without a Node object has no pods either.
        if (!(error instanceof NotFoundError)) throw error;
      }
    },
  };
}

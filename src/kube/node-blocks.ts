// SPDX-License-Identifier: Apache-2.0
import type { NodeBlocks } from "../cni/collect/node-blocks.ts";
import { IN_USE_ANNOTATION } from "../controller/projections.ts";
import { NODES } from "../crds/core.ts";
import { InvalidObjectError } from "../crds/errors.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../crds/ipam-block.ts";
import { IPAM_HANDLES, type IPAMHandle } from "../crds/ipam-handle.ts";
import { blockName } from "../crds/names.ts";
import { damageOf } from "../ipam/check-block.ts";
import type { IPAMSources } from "../ipam/ports.ts";
import { parseCIDR } from "../net/cidr.ts";
import { formatIP } from "../net/ip.ts";
import type { KubeClient } from "./api.ts";
import { NotFoundError } from "./errors.ts";
import { annotateNode } from "./own-node.ts";

const PAGE_SIZE = 100;
const TIMEOUT_MS = 60_000;

/**
 * A node's blocks: its own by name, as its affinities tell, so that a look costs what the node has and no more.
 *
 * @param onDamaged hears after each look which of the node's own blocks are damaged: by name, and why
 */
export function nodeBlocks(
  client: KubeClient,
  sources: IPAMSources,
  nodeName: string,
  onDamaged: (damaged: ReadonlyMap<string, string>) => void,
): NodeBlocks {
  let unreadable: ReadonlySet<string> = new Set();
  async function* own(names: ReadonlySet<string>, signal: AbortSignal): AsyncGenerator<IPAMBlock | InvalidObjectError> {
    for (const name of names) {
      try {
        yield await client.get(IPAM_BLOCKS, name, { signal });
      } catch (error) {
        if (error instanceof InvalidObjectError) yield error;
        else if (!(error instanceof NotFoundError)) throw error;
      }
    }
  }
  async function* all(signal: AbortSignal): AsyncGenerator<IPAMBlock | InvalidObjectError> {
    for await (const page of client.listPages(IPAM_BLOCKS, { limit: PAGE_SIZE, signal, timeoutMs: TIMEOUT_MS })) {
      yield* page.invalid;
      yield* page.items;
    }
  }
  async function* read(which: "own" | "all", signal: AbortSignal): AsyncGenerator<IPAMBlock> {
    const names = new Set((await sources.ownAffinities()).map(({ spec }) => blockName(parseCIDR(spec.cidr))));
    const damaged = new Map<string, string>();
    const leftOut = new Set<string>();
    for await (const block of which === "own" ? own(names, signal) : all(signal)) {
      if (block instanceof InvalidObjectError) {
        leftOut.add(block.objectName);
        if (names.has(block.objectName)) damaged.set(block.objectName, block.message);
        continue;
      }
      const { name } = block.metadata;
      const kinds = new Set(damageOf(block.spec).map(({ kind }) => kind));
      if (kinds.size > 0 && names.has(name)) damaged.set(name, [...kinds].join(", "));
      yield block;
    }
    if (which === "all") unreadable = leftOut;
    onDamaged(damaged);
  }
  async function* handles(signal: AbortSignal): AsyncGenerator<IPAMHandle> {
    for await (const page of client.listPages(IPAM_HANDLES, { limit: PAGE_SIZE, signal, timeoutMs: TIMEOUT_MS }))
      yield* page.items;
  }
  return {
    isReady: async () => (await sources.settings()).datastoreReady,
    read,
    unreadable: () => unreadable,
    handles,
    publishInUse: async (ips, signal) => {
      const text = ips.map(formatIP).sort().join();
      try {
        const { metadata } = await client.get(NODES, nodeName, { signal });
        if ((metadata.annotations?.[IN_USE_ANNOTATION] ?? "") === text) return;
        await annotateNode(client, nodeName, { name: IN_USE_ANNOTATION, text }, signal);
      } catch (error) {
        // A machine without a Node object has no pods either.
        if (!(error instanceof NotFoundError)) throw error;
      }
    },
  };
}

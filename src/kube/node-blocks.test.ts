// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { BLOCK_AFFINITIES } from "../crds/block-affinity.ts";
import { IPAM_BLOCKS, type IPAMBlock } from "../crds/ipam-block.ts";
import { blockName } from "../crds/names.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import { pendingAffinity } from "../ipam/affinity.ts";
import { newBlock } from "../ipam/block.ts";
import { listedObjects } from "../ipam/kube-store.ts";
import { sourcesOf } from "../ipam/sources.ts";
import { parseCIDR } from "../net/cidr.ts";
import { MemoryClient } from "./memory-client.ts";
import { nodeBlocks } from "./node-blocks.ts";

/** As another client writes them, unchecked. */
const RAW_BLOCKS: Resource<KubeObject> = { ...IPAM_BLOCKS, parse: (raw) => raw as KubeObject };

function blockOf(cidr: string, node: string, spec: object = {}): IPAMBlock {
  const network = parseCIDR(cidr);
  return {
    apiVersion: "crd.projectcalico.org/v1",
    kind: "IPAMBlock",
    metadata: { name: blockName(network) },
    spec: { ...newBlock(network, `host:${node}`, { ms: 0, ns: 1n }), ...spec },
  };
}

describe("nodeBlocks()", () => {
  it("names this node's damaged blocks after each look, and no longer once they are right", async () => {
    const client = new MemoryClient();
    const add = async (block: IPAMBlock, node: string): Promise<void> => {
      await client.create(RAW_BLOCKS, block);
      await client.create(BLOCK_AFFINITIES, pendingAffinity(node, parseCIDR(block.spec.cidr)));
    };
    await add(blockOf("10.0.0.0/30", "node-a"), "node-a");
    await add(blockOf("10.0.0.4/30", "node-a", { unallocated: [0, 0, 1, 2, 3] }), "node-a");
    await add(blockOf("10.0.0.8/30", "node-a", { allocations: [null] }), "node-a");
    await add(blockOf("10.0.0.12/30", "node-b", { allocations: [null] }), "node-b");
    const looks: string[][] = [];
    const sources = sourcesOf(listedObjects(client, "node-a"), "node-a");
    const blocks = nodeBlocks(client, sources, "node-a", (damaged) => looks.push([...damaged.keys()].toSorted()));
    const { signal } = new AbortController();
    const read: string[] = [];
    for (const which of ["own", "all"] as const)
      for await (const { spec } of blocks.read(which, signal)) read.push(spec.cidr);
    expect(read).toEqual(["10.0.0.0/30", "10.0.0.4/30", "10.0.0.0/30", "10.0.0.4/30"]);
    expect([...blocks.unreadable()]).toEqual(["10-0-0-12-30", "10-0-0-8-30"]);
    const bad = ["10-0-0-4-30", "10-0-0-8-30"];
    expect(looks).toEqual([bad, bad]);

    await client.delete(RAW_BLOCKS, "10-0-0-8-30");
    const found = await client.get(RAW_BLOCKS, "10-0-0-4-30");
    await client.update(RAW_BLOCKS, { ...blockOf("10.0.0.4/30", "node-a"), metadata: found.metadata });
    for await (const _ of blocks.read("own", signal)) {
      // What it yields is not the question here.
    }
    expect(looks.at(-1)).toEqual([]);
  });
});

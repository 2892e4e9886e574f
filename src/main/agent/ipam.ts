// SPDX-License-Identifier: Apache-2.0
import { blockName } from "../../crds/names.ts";
import type { NodeWriter } from "../../felix/drivers/node-writer.ts";
import { TunnelAddresses } from "../../felix/drivers/tunnel-address.ts";
import { type Allocator, createAllocator } from "../../ipam/allocator/allocator.ts";
import { KubeStore } from "../../ipam/kube-store.ts";
import type { IPAMSources, IPAMStore } from "../../ipam/ports.ts";
import { releaseUnhandled } from "../../ipam/release-unhandled.ts";
import { sourcesOf } from "../../ipam/sources.ts";
import { BlockSchema } from "../../kube/block-schema.ts";
import { systemClock as clock, steadyClock } from "../../lib/system-clock.ts";
import { parseCIDR } from "../../net/cidr.ts";
import type { Base } from "./base.ts";

/** This node's addresses: those of pods, and its own in tunnels. */
export interface NodeIPAM {
  readonly store: IPAMStore;
  readonly sources: IPAMSources;
  readonly allocator: Allocator;
  readonly tunnelAddresses: TunnelAddresses;
}

const random = Math.random;

export function makeIPAM({ nodeName, config, cluster, logs }: Base, nodeWriter: NodeWriter): NodeIPAM {
  const { client, cache } = cluster;
  const log = logs.of("ipam");
  const schema = new BlockSchema({
    client,
    clock,
    onMissing: (why) => log.warn({ why }, "ipCooldownSeconds is not kept in blocks: releases free at once"),
  });
  const store = new KubeStore(client, (err) => log.warn({ err }, "Object left out of a list"));
  const sources = sourcesOf({ ...cache.ipamObjects(), keepsReleasedAt: () => schema.keepsReleasedAt() }, nodeName);
  const allocator = createAllocator({
    store,
    sources,
    clock,
    random,
    nodeName,
    isResident: true,
    cooldownMs: config.ipCooldownMs,
    onBorrowed: (block) => cache.borrowed.noteBorrowed(blockName(block)),
    onBackgroundError: (err) => log.warn({ err }, "Background work failed; it is tried again"),
  });
  cache.affinities.onChange(({ type, old }) => {
    if (type === "deleted" && old.spec.node === nodeName) void allocator.restoreClaim(parseCIDR(old.spec.cidr));
  });
  const tunnelAddresses = new TunnelAddresses({
    nodeName,
    sources: cache,
    ipam: {
      store,
      assign: (request) => allocator.assign(request),
      releaseByHandle: (handleID) => allocator.releaseByHandle(handleID),
      releaseNameless: (address) => releaseUnhandled({ store, clock, random }, address),
    },
    node: nodeWriter,
    usesPodCIDRs: () => cluster.settings.config.routesPodCIDRs,
    clock: steadyClock,
    random,
    log: logs.of("felix"),
  });
  return { store, sources, allocator, tunnelAddresses };
}

// SPDX-License-Identifier: Apache-2.0
import type { Logger } from "pino";
import type { PodAdopter } from "../../cni/adopt/adopter.ts";
import { NODES } from "../../crds/core.ts";
import type { AgentConfig } from "../../felix/config.ts";
import { NodeWriter } from "../../felix/drivers/node-writer.ts";
import { createFelix, type Felix } from "../../felix/felix.ts";
import { gatherForeign } from "../../felix/foreign/gather.ts";
import { ownNeeds } from "../../felix/foreign/judge.ts";
import { ForeignWatch } from "../../felix/foreign/watch.ts";
import { nftPacketFilter } from "../../felix/nft/run-nft.ts";
import type { FilterSettings } from "../../felix/nft/settings.ts";
import { NodeAddressDetector } from "../../felix/node-address/detector.ts";
import { udpReach } from "../../felix/node-address/reach.ts";
import { PacketFilter } from "../../felix/packet-filter.ts";
import { PathProbe } from "../../felix/path-mtu/path-probe.ts";
import { type Plan, planOnly } from "../../felix/plan/plan.ts";
import type { DriverPorts } from "../../felix/plan/ports.ts";
import { withPodCIDRs } from "../../felix/pod-cidrs.ts";
import { SelfTest } from "../../felix/self-test/self-test.ts";
import { testPairs } from "../../felix/self-test/test-pairs.ts";
import type { ConflistKeeper } from "../../install/conflist-keeper.ts";
import { steadyClock as clock } from "../../lib/system-clock.ts";
import { formatIP } from "../../net/ip.ts";
import { enableForwarding, isForwarding } from "../../netlink/sysctl.ts";
import type { Base } from "./base.ts";

/** The node's routes, tunnels and packet filter, and what is told of other programs. */
export interface Dataplane {
  readonly felix: Felix;
  /** Absent: nothing is proved at the start. */
  readonly selfTest: SelfTest | undefined;
  /** Absent: paths to other nodes are not probed. */
  readonly pathProbe: PathProbe | undefined;
  readonly foreign: ForeignWatch;
  readonly nodeWriter: NodeWriter;
  /** Absent: the table in nftables is left alone. */
  readonly packetFilter: PacketFilter | undefined;
  /** Present: nothing is changed, only listed. */
  readonly plan: Plan | undefined;
}

const random = Math.random;

/** @param conflist what the runtime needs besides; absent where that is not the agent's */
export function makeDataplane(base: Base, conflist: ConflistKeeper | undefined, adopter: PodAdopter): Dataplane {
  const { nodeName, config, cluster, kernel, metrics } = base;
  const { client, cache, settings } = cluster;
  const log = base.logs.of("felix");
  const { ports, plan } = driverPorts(base);
  const packetFilter = makePacketFilter(base, ports, log);
  const nodeWriter = new NodeWriter(ports.node);
  const { nodes, pools, borrowed } = cache;
  const affinities = withPodCIDRs(nodes, cache.affinities, { isOn: config.routesPodCIDRs });
  const foreign = new ForeignWatch({
    port: gatherForeign({ routes: kernel.routes }),
    // Forwarding and routes are first made, then looked at.
    needs: () =>
      felix.health.readiness().checks["firstApply"]?.ok === true
        ? ownNeeds(pools.list(), settings.config.vxlan.port)
        : undefined,
    clock,
    random,
    log,
  });
  const felix = createFelix({
    nodeName,
    dataplane: ports.routes,
    tunnels: ports.tunnels,
    podLinks: ports.podLinks,
    vxlan: config.vxlan,
    mtu: config.mtu,
    encapsulation: config.encapsulation,
    sources: { nodes, pools, borrowed, affinities },
    clock,
    random,
    log,
    metrics: metrics.felix,
    enableForwarding: ports.enableForwarding,
    nodeAddress: new NodeAddressDetector({
      settings: config.nodeAddress,
      reach: udpReach,
      clock,
      pollMs: config.addressPollMs,
    }),
    ignoresDuplicates: config.ignoresDuplicates,
    moreFindings: () =>
      [settings, foreign, conflist, selfTest, pathProbe, adopter].flatMap((teller) => teller?.findings() ?? []),
    onAddresses: (addrs) => {
      const own = new Set(addrs.map(({ ip }) => formatIP(ip)));
      client.dropConnectionsFrom((address) => !own.has(address.replace(/^::ffff:/, "")) && !address.startsWith("127."));
    },
    nodeStatus: nodeWriter,
    routeRefreshMs: config.routeRefreshMs,
    configured: settings.known,
    ...(packetFilter && { packetFilter }),
  });
  settings.follow(log, (now) => {
    base.logs.setLevel(now.logLevel);
    if (now.packetFilter !== undefined)
      packetFilter?.configure(filterSettings(now, now.packetFilter), now.nftRefreshMs);
    affinities.route(now.routesPodCIDRs);
    felix.configure(now);
  });
  const selfTest = makeSelfTest(base, () => felix.health.readiness().ok);
  const pathProbe = makePathProbe(base, felix);
  return { felix, selfTest, pathProbe, foreign, nodeWriter, packetFilter, plan };
}

/** A plan makes no pods, so it must not say that they reach each other. */
function makeSelfTest({ config, cluster, kernel, logs }: Base, isTime: () => boolean): SelfTest | undefined {
  if (!config.hasSelfTest || config.isPlan) return undefined;
  const { pools, affinities } = cluster.cache;
  return new SelfTest({
    port: kernel.selfTest,
    isTime,
    pairs: () => testPairs(pools.list(), affinities.list()),
    clock,
    random,
    log: logs.of("felix"),
  });
}

/** A plan only looks at its own node. */
function makePathProbe({ nodeName, config, cluster, kernel, logs }: Base, felix: Felix): PathProbe | undefined {
  if (!config.probesPaths || config.isPlan) return undefined;
  return new PathProbe({
    nodeName,
    port: kernel.echo,
    nodes: cluster.cache.nodes,
    // Where pods are made smaller than what fits, all else is, too.
    neededBytes: () => {
      const fitting = felix.podMTUBytes;
      return felix.status().mtu.hostBytes - Math.max(0, fitting - (config.podInterfaceMTUBytes || fitting));
    },
    clock,
    random,
    log: logs.of("felix"),
  });
}

/** The real ports, or with `--plan` others in their place that only record. */
function driverPorts({ config, cluster, kernel, nodeName }: Base): { ports: DriverPorts; plan: Plan | undefined } {
  const { client } = cluster;
  const real: DriverPorts = {
    routes: kernel.routes,
    tunnels: kernel.tunnels,
    podLinks: kernel.podLinks,
    filter: nftPacketFilter({ changes: kernel.tables }),
    node: {
      get: () => client.get(NODES, nodeName),
      updateStatus: (node) => client.update(NODES, node, { subresource: "status" }),
      setTaints: ({ metadata: { name, resourceVersion } }, taints) =>
        client.patch(NODES, name, { type: "merge", body: { metadata: { resourceVersion }, spec: { taints } } }),
    },
    enableForwarding,
  };
  const plan = config.isPlan ? planOnly(real, isForwarding) : undefined;
  return { ports: plan?.ports ?? real, plan };
}

function makePacketFilter({ config, metrics }: Base, ports: DriverPorts, log: Logger): PacketFilter | undefined {
  return (
    config.packetFilter &&
    new PacketFilter({
      port: ports.filter,
      settings: filterSettings(config, config.packetFilter),
      refreshMs: config.nftRefreshMs,
      clock,
      random,
      log,
      metrics: metrics.packetFilter,
    })
  );
}

function filterSettings({ vxlan, encapsulation }: AgentConfig, settings: FilterSettings): FilterSettings {
  return { ...settings, vxlanPort: vxlan.port, encapsulation };
}

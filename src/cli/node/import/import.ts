// SPDX-License-Identifier: Apache-2.0
import { hostname } from "node:os";
import { join } from "node:path";
import { listNamespaces } from "../../../cni/adopt/netns-dir.ts";
import { isNetnsGone } from "../../../cni/errors.ts";
import { linuxHost } from "../../../cni/host.ts";
import type { Logger } from "../../../cni/ports.ts";
import { fileRecordStore } from "../../../cni/records/record-store.ts";
import type { PodRef } from "../../../cni/types.ts";
import { PODS } from "../../../crds/core.ts";
import { effectiveIPPool, IP_POOLS } from "../../../crds/ip-pool.ts";
import { createAllocator } from "../../../ipam/allocator/allocator.ts";
import { KubeStore, listedObjects } from "../../../ipam/kube-store.ts";
import { sourcesOf } from "../../../ipam/sources.ts";
import type { KubeClient } from "../../../kube/api.ts";
import { describeError } from "../../../lib/errors.ts";
import { cidrOf } from "../../../net/cidr.ts";
import { bitsOf, familyOf, formatIP, parseIP } from "../../../net/ip.ts";
import { createDirectKernel, type Kernel } from "../../../netlink/kernel.ts";
import { type Command, defineCommand, EXIT } from "../../command.ts";
import { UsageError } from "../../errors.ts";
import { renderTable } from "../../output/table.ts";
import { claim } from "./claim.ts";
import { cachedSandbox, type Lease, readLeases } from "./leases.ts";
import { describeImport, type ImportFacts, planImport } from "./plan.ts";

const NETWORKS_DIR = "/var/lib/cni/networks";
const RESULTS_DIR = "/var/lib/cni/results";
const DEFAULT_STATE_DIR = "/var/lib/gingham";

export const command: Command = defineCommand({
  usage: `gingham node import: claim the addresses of running containers that host-local gave on this node

  --networks-dir DIR  where host-local keeps them (default: ${NETWORKS_DIR})
  --results-dir DIR   what libcni keeps of each ADD (default: ${RESULTS_DIR})
  --node-name NAME    of this machine's Node (default: NODENAME, or the host name)
  --state-dir DIR     where the agent keeps its state (default: GINGHAM_STATE_DIR, or ${DEFAULT_STATE_DIR})
  --yes               do not ask

Before Gingham gives addresses out of the same networks, and as often as you like. Each address in use is then a container's in its
IPAMBlock, is given to nobody else, and comes free when the container ends. It prints the plan first, and asks. To be run on the node, as
root, in its network namespace.
`,
  options: {
    "networks-dir": { type: "string", default: NETWORKS_DIR },
    "results-dir": { type: "string", default: RESULTS_DIR },
    "node-name": { type: "string" },
    "state-dir": { type: "string" },
    yes: { type: "boolean" },
  },
  run: async ({ values, positionals }, context) => {
    if (positionals.length > 0) throw new UsageError(`${JSON.stringify(positionals[0])} is not understood`);
    const { env, clock } = context;
    const nodeName = values["node-name"] ?? (env["NODENAME"] || hostname().toLowerCase());
    const stateDir = values["state-dir"] ?? (env["GINGHAM_STATE_DIR"] || DEFAULT_STATE_DIR);
    const dirs = { networks: values["networks-dir"], results: values["results-dir"] };
    const client = await context.connect();
    const kernel = createDirectKernel();
    try {
      const steps = planImport(await gather(client, kernel, nodeName, dirs));
      const rows = steps.map((step) => ({ ...shown(step.lease), what: describeImport(step) }));
      if (steps.length === 0) {
        await context.show(() => `There are no addresses of host-local in ${dirs.networks}.\n`, { addresses: rows });
        return EXIT.ok;
      }
      context.people.write(renderPlan(rows));
      const claims = steps.filter((step) => step.kind === "claim");
      const isSound = steps.every(({ kind }) => kind === "claim" || kind === "ended");
      if (steps.some(({ kind }) => kind === "problem")) {
        context.stderr.write("gingham: nothing was changed; mend what the last column names, and try again\n");
        return EXIT.problem;
      }
      if (claims.length === 0) return isSound ? EXIT.ok : EXIT.problem;
      if (values.yes !== true && !(await context.confirm(`Claim these ${claims.length}?`))) {
        context.stderr.write("gingham: nothing was changed; --yes claims without asking\n");
        return EXIT.problem;
      }
      const allocator = createAllocator({
        store: new KubeStore(client),
        sources: sourcesOf(listedObjects(client, nodeName), nodeName),
        clock,
        random: Math.random,
        nodeName,
      });
      const tools = {
        addresses: allocator,
        records: fileRecordStore(join(stateDir, "attachments")),
        wiring: kernel.wiring,
        host: linuxHost({ nodeName, podMTUBytes: () => 0 }),
        clock,
        log: SILENT,
      };
      const failed: string[] = [];
      for (const step of claims) {
        await claim(tools, step).catch((error: unknown) => {
          failed.push(`${formatIP(step.lease.ip)}: ${describeError(error)}`);
        });
      }
      allocator.close();
      const done = claims.length - failed.length;
      await context.show(() => `Claimed ${done} of ${claims.length}.\n`, { addresses: rows, failed });
      for (const failure of failed) context.stderr.write(`gingham: ${failure}\n`);
      return failed.length === 0 && isSound ? EXIT.ok : EXIT.problem;
    } finally {
      await kernel.close();
    }
  },
});

const SILENT: Logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

interface Row {
  readonly address: string;
  readonly network: string;
  readonly container: string;
  readonly interface: string;
  readonly what: string;
}

function shown({ ip, network, containerID, ifName }: Lease): Omit<Row, "what"> {
  return { address: formatIP(ip), network, container: containerID, interface: ifName };
}

function renderPlan(rows: readonly Row[]): string {
  return renderTable<Row>(
    [
      { title: "ADDRESS", text: ({ address }) => address },
      { title: "NETWORK", text: ({ network }) => network },
      { title: "CONTAINER", text: ({ container }) => container.slice(0, 13) },
      { title: "INTERFACE", text: (row) => row.interface },
      { title: "WHAT", text: ({ what }) => what },
    ],
    rows,
  );
}

async function gather(
  client: KubeClient,
  kernel: Kernel,
  nodeName: string,
  dirs: { readonly networks: string; readonly results: string },
): Promise<ImportFacts> {
  const leases = readLeases(dirs.networks);
  const cached = new Map(leases.map((lease) => [lease, cachedSandbox(dirs.results, lease)]));
  const paths = new Set([...(await listNamespaces()), ...[...cached.values()].filter((path) => path !== undefined)]);
  const [namespaces, pods, pools, segments] = await Promise.all([
    findNamespaces(kernel, leases, [...paths]),
    podsOf(client, nodeName),
    client.list(IP_POOLS),
    findSegments(kernel),
  ]);
  return {
    leases,
    namespaces,
    isEnded: (lease) => cached.get(lease) !== undefined,
    podOf: (ip) => pods.get(formatIP(ip)),
    pools: pools.items.map(effectiveIPPool).filter(({ enabled }) => enabled),
    segments,
  };
}

/** Which namespace has which of the leases' addresses. */
async function findNamespaces(
  kernel: Kernel,
  leases: readonly Lease[],
  paths: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const wanted = new Set(leases.map(({ ip }) => ip));
  const found = new Map<string, string>();
  for (const contIface of new Set(leases.map(({ ifName }) => ifName))) {
    for (const netns of paths) {
      try {
        const { contAddrs } = await kernel.wiring.inspect({ netns, contIface, hostIface: "lo", ips: [] });
        for (const { ip } of contAddrs) if (wanted.has(ip) && !found.has(formatIP(ip))) found.set(formatIP(ip), netns);
      } catch (error) {
        if (!isNetnsGone(error)) throw error;
      }
    }
  }
  return found;
}

async function podsOf(client: KubeClient, nodeName: string): Promise<ReadonlyMap<string, PodRef>> {
  const { items } = await client.list(PODS, { fieldSelector: `spec.nodeName=${nodeName}` });
  const own = items.filter(({ spec, status }) => spec?.hostNetwork !== true && status?.podIP !== undefined);
  return new Map(
    own.flatMap(({ metadata: { namespace = "", name, uid }, status }) =>
      (status?.podIPs ?? [{ ip: status?.podIP ?? "" }]).map(
        ({ ip }) => [normal(ip), { namespace, name, ...(uid !== undefined && { uid }) }] as const,
      ),
    ),
  );
}

function normal(text: string): string {
  try {
    return formatIP(parseIP(text));
  } catch {
    return text;
  }
}

async function findSegments(kernel: Kernel): Promise<ImportFacts["segments"]> {
  const [links, addrs] = await Promise.all([kernel.routes.listLinks(), kernel.routes.listAddrs()]);
  const names = new Map(links.map(({ ifIndex, name }) => [ifIndex, name]));
  return addrs.flatMap(({ ifIndex, ip, prefixLength }) => {
    const link = names.get(ifIndex) ?? "";
    if (link === "lo" || prefixLength === bitsOf(familyOf(ip))) return [];
    return [{ subnet: cidrOf(ip, prefixLength), gateway: ip, link }];
  });
}

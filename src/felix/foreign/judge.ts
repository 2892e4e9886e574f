// SPDX-License-Identifier: Apache-2.0
import { effectiveIPPool, type IPPool } from "../../crds/ip-pool.ts";
import { type CIDR, cidrCovers, cidrFamily, formatCIDR, parseCIDR } from "../../net/cidr.ts";
import type { Family } from "../../net/ip.ts";
import type { Finding, FindingCode } from "../calc/findings.ts";
import { IPIP_DEVICE, VXLAN_DEVICES, WORKLOAD_IFACE_PREFIX } from "../ownership.ts";
import { calicoLeftovers, describeLeftovers } from "./leftovers.ts";
import type { ChainName, ConfigFile, ForeignFacts, ForwardChain, OwnNeeds } from "./ports.ts";

/**
 * Says what other programs do, or will do, that breaks pods, each with the line that ends it.
 *
 * Only what is certain is told: a program that runs with a setting that harms, a chain that drops. Nothing is changed.
 */
export function judgeForeign(facts: ForeignFacts, needs: OwnNeeds): readonly Finding[] {
  return [
    networkManager(facts),
    networkd(facts),
    firewalld(facts, needs),
    ...forwardDrops(facts, needs),
    ...tunnelDrops(facts, needs),
    ...strictReversePath(facts),
    ...forwardingOff(facts, needs),
    ...calico(facts),
  ].filter((finding) => finding !== undefined);
}

/** What the pools of the cluster ask of the machine; undefined while none is known. */
export function ownNeeds(pools: Iterable<IPPool>, vxlanPort: number): OwnNeeds | undefined {
  const readable = [...pools].flatMap((pool) => {
    const cidr = attempt(() => parseCIDR(pool.spec.cidr));
    return cidr === undefined ? [] : [{ cidr, hasVXLAN: effectiveIPPool(pool).vxlanMode !== "Never" }];
  });
  if (readable.length === 0) return undefined;
  const familiesOf = (some: typeof readable): readonly Family[] =>
    ([4, 6] as const).filter((family) => some.some(({ cidr }) => cidrFamily(cidr) === family));
  const tunnelled = familiesOf(readable.filter(({ hasVXLAN }) => hasVXLAN));
  return {
    pools: readable.map(({ cidr }) => formatCIDR(cidr)),
    families: familiesOf(readable),
    ...(tunnelled.length > 0 && { vxlan: { port: vxlanPort, families: tunnelled } }),
  };
}

function attempt<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}

/** Whether Calico's agent runs here: then nothing of it is a leftover. */
export function hasCalicoAgent({ programs }: ForeignFacts): boolean {
  return ["calico-node", "calico-felix"].some((name) => programs.has(name));
}

function finding(code: FindingCode, subject: string, message: string): Finding {
  return { code, subject, message };
}

function networkManager({ programs, files }: ForeignFacts): Finding | undefined {
  const isLeftAlone = files.networkManager.some(({ text }) =>
    assignments(text, "unmanaged-devices").some((value) => value.includes(`interface-name:${WORKLOAD_IFACE_PREFIX}`)),
  );
  if (!programs.has("NetworkManager") || isLeftAlone) return undefined;
  const fix = `printf '[keyfile]\\nunmanaged-devices=interface-name:cali*;interface-name:vxlan*.calico\\n' > /etc/NetworkManager/conf.d/gingham.conf && systemctl reload NetworkManager`;
  return finding(
    "NetworkManagerManages",
    "NetworkManager",
    `NetworkManager runs and may configure pods' interfaces (cali*): ${fix}`,
  );
}

/** Its default is yes. Source: networkd.conf(5). */
function networkd({ programs, files }: ForeignFacts): Finding | undefined {
  if (!programs.has("systemd-network")) return undefined;
  const value = lastAssignment(files.networkd, "ManageForeignRoutes")?.value ?? "yes";
  if (/^(no|false|off|0|n|f)$/i.test(value)) return undefined;
  const fix = `mkdir -p /etc/systemd/networkd.conf.d && printf '[Network]\\nManageForeignRoutes=no\\n' > /etc/systemd/networkd.conf.d/gingham.conf && systemctl restart systemd-networkd`;
  return finding(
    "NetworkdRemovesRoutes",
    "systemd-networkd",
    `systemd-networkd removes routes that it did not make whenever it configures a link: ${fix}`,
  );
}

/**
 * It rejects what is forwarded between zones that nobody named: from pods by the zone that the packets come from, to pods
 * by a policy alone, since other nodes and clients are of any zone.
 */
function firewalld({ programs, files }: ForeignFacts, { pools }: OwnNeeds): Finding | undefined {
  if (!programs.has("firewalld")) return undefined;
  const zone = files.firewalldTrusted.map(({ text }) => text).join("\n");
  const trusted = [
    ...[...zone.matchAll(/<source\s+address="([^"]+)"/g)].map(([, cidr = ""]) => cidr),
    ...[...zone.matchAll(/<interface\s+name="([^"]+)\+"/g)].map(([, prefix = ""]) => `${prefix}*`),
  ];
  const isTrusted = pools.every((pool) => isAccepted(trusted, [parseCIDR(pool)]));
  if (isTrusted && files.firewalldPolicies.some(({ text }) => letsAllIn(text))) return undefined;
  const policy = "firewall-cmd --permanent --policy=to-pods";
  const fix = [
    `firewall-cmd --permanent --zone=trusted --add-interface=${WORKLOAD_IFACE_PREFIX}+`,
    "firewall-cmd --permanent --new-policy=to-pods",
    `${policy} --set-target=ACCEPT`,
    `${policy} --add-ingress-zone=ANY`,
    `${policy} --add-egress-zone=trusted`,
    "firewall-cmd --reload",
  ].join(" && ");
  const what = isTrusted ? "packets that other nodes and clients send to pods" : "forwarded packets of pods";
  return finding("FirewalldBlocks", "firewalld", `firewalld rejects ${what}: ${fix}`);
}

/** Source: firewalld.policy(5). */
function letsAllIn(policy: string): boolean {
  const parts = [
    /<policy[^>]*\starget="ACCEPT"/,
    /<ingress-zone\s+name="ANY"/,
    /<egress-zone\s+name="(?:trusted|ANY)"/,
  ];
  return parts.every((part) => part.test(policy));
}

/** A node that accepts no VXLAN hears nothing from pods of others. */
function tunnelDrops({ inputChains, files, programs }: ForeignFacts, { vxlan }: OwnNeeds): readonly Finding[] {
  if (vxlan === undefined) return [];
  return inputChains.flatMap(({ family, table, chain, acceptsUDP }) => {
    const concerns = (FAMILIES_OF[family] ?? []).some((carried) => vxlan.families.includes(carried));
    if (!concerns || acceptsUDP.some(({ min, max }) => min <= vxlan.port && vxlan.port <= max)) return [];
    const fix = inputFix({ family, table, chain }, vxlan.port, { isUFWOn: isUFWOn(files), programs });
    const name = `${family} ${table} ${chain}`;
    const message = `Chain ${name} drops what no rule accepts, and none accepts VXLAN from other nodes, so their pods are not heard: ${fix}`;
    return [finding("TunnelDropped", name, message)];
  });
}

function inputFix(
  { family, table, chain }: ChainName,
  port: number,
  { isUFWOn, programs }: { readonly isUFWOn: boolean; readonly programs: ReadonlySet<string> },
): string {
  if (table === "firewalld" && programs.has("firewalld"))
    return `firewall-cmd --permanent --add-port=${port}/udp && firewall-cmd --reload, in the zone of the link between nodes`;
  if (table !== "filter" || chain !== "INPUT" || !["ip", "ip6"].includes(family))
    return `nft insert rule ${family} ${table} ${chain} udp dport ${port} accept, and in the file that makes this table`;
  if (isUFWOn) return `ufw allow ${port}/udp`;
  return `${family === "ip6" ? "ip6tables" : "iptables"} -I INPUT -p udp --dport ${port} -j ACCEPT`;
}

function isUFWOn(files: ForeignFacts["files"]): boolean {
  return lastAssignment(files.ufw, "ENABLED")?.value.toLowerCase() === "yes";
}

/** By nftables' name of a table's family. */
const FAMILIES_OF: Readonly<Record<string, readonly Family[]>> = { ip: [4], ip6: [6], inet: [4, 6] };

function forwardDrops(facts: ForeignFacts, { families, pools }: OwnNeeds): readonly Finding[] {
  return facts.forwardChains.flatMap((chain) => {
    const carried = FAMILIES_OF[chain.family] ?? [];
    const own = pools.map(parseCIDR).filter((pool) => carried.includes(cidrFamily(pool)));
    if (!carried.some((family) => families.includes(family)) || chain.policy === "accept") return [];
    // Of its table there is a finding of its own.
    if (chain.table === "firewalld" && facts.programs.has("firewalld")) return [];
    if (isAccepted(chain.acceptsFrom, own) && isAccepted(chain.acceptsTo, own)) return [];
    const name = `${chain.isLegacy === true ? "iptables-legacy " : ""}${chain.family} ${chain.table} ${chain.chain}`;
    const message = `Chain ${name} drops what no rule accepts, and none accepts packets of pods: ${forwardFix(chain, facts)}`;
    return [finding("ForwardDropped", name, message)];
  });
}

/** By the names of pods' interfaces, or by all the networks that pods have addresses of. */
function isAccepted(accepted: readonly string[], pools: readonly CIDR[]): boolean {
  if (accepted.includes("*") || accepted.includes(`${WORKLOAD_IFACE_PREFIX}*`)) return true;
  const networks = accepted.flatMap((text) => attempt(() => parseCIDR(text)) ?? []);
  return pools.length > 0 && pools.every((pool) => networks.some((network) => sameFamilyCovers(network, pool)));
}

function sameFamilyCovers(network: CIDR, pool: CIDR): boolean {
  return cidrFamily(network) === cidrFamily(pool) && cidrCovers(network, pool);
}

function forwardFix({ family, table, chain, isLegacy }: ForwardChain, { files, chains }: ForeignFacts): string {
  const both = (accept: (flag: "-i" | "-o") => string): string => [accept("-i"), accept("-o")].join(" && ");
  if (table !== "filter" || chain !== "FORWARD" || !["ip", "ip6"].includes(family)) {
    const rule = (key: string): string => `nft insert rule ${family} ${table} ${chain} ${key} "cali*" accept`;
    return `${rule("iifname")} && ${rule("oifname")}, and in the file that makes this table`;
  }
  if (isUFWOn(files)) return "ufw route allow in on cali+ && ufw route allow out on cali+";
  const iptables = `${family === "ip6" ? "ip6tables" : "iptables"}${isLegacy === true ? "-legacy" : ""}`;
  // Docker keeps what is in this chain when it writes its rules again.
  const isDocker = chains.some((known) => known.family === family && known.chain === "DOCKER-USER");
  return both((flag) => `${iptables} -I ${isDocker ? "DOCKER-USER" : "FORWARD"} ${flag} cali+ -j ACCEPT`);
}

/** A reply that came another way than it would go is dropped; over a tunnel that is usual for NodePorts. */
function strictReversePath({ links, reversePath }: ForeignFacts): readonly Finding[] {
  const devices: readonly string[] = [IPIP_DEVICE, ...Object.values(VXLAN_DEVICES)];
  return links.flatMap(({ name, up }) => {
    // The kernel takes the larger of both. Source: ip-sysctl.rst, rp_filter.
    const strength = Math.max(reversePath.get("all") ?? 0, reversePath.get(name) ?? 0);
    if (strength !== 1 || !up || !devices.includes(name)) return [];
    const fix = `sysctl -w net/ipv4/conf/${name}/rp_filter=2`;
    const message = `Reverse path filtering of ${name} is strict, so packets that clients outside send to pods by way of another node are dropped: ${fix}`;
    return [finding("StrictReversePath", name, message)];
  });
}

const FORWARDING = { 4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding" } as const;

function forwardingOff({ files, forwarding }: ForeignFacts, { families }: OwnNeeds): readonly Finding[] {
  return families.flatMap((family) => {
    const key = FORWARDING[family];
    const last = lastAssignment(files.sysctl, key);
    if (last?.value === "0") {
      const message = `${last.path} sets ${key} = 0, so pods lose the world whenever it is applied: set it to 1 there`;
      return [finding("ForwardingSwitchedOff", key, message)];
    }
    if (forwarding[family]) return [];
    const message = `${key} is 0: another program has switched forwarding off; the agent switches it on again, and sysctl -w ${key}=1 does so now`;
    return [finding("ForwardingSwitchedOff", key, message)];
  });
}

function calico(facts: ForeignFacts): readonly Finding[] {
  if (hasCalicoAgent(facts)) {
    const message =
      "Calico's agent runs on this node, too: each removes the other's routes; take the node out of Calico's DaemonSet (kubectl -n kube-system delete daemonset calico-node, or a nodeSelector)";
    return [finding("CalicoAgentRuns", "calico-node", message)];
  }
  const leftovers = describeLeftovers(calicoLeftovers(facts));
  if (leftovers.length === 0) return [];
  const message = `A Calico agent has left ${leftovers.join(", ")}: gingham node clean --calico-leftovers shows them, and removes them when you agree`;
  return [finding("CalicoLeftovers", "calico", message)];
}

/** Values of `KEY=…` or `KEY = …`, comments left out. systemd, NetworkManager, ufw and sysctl write alike. */
function assignments(text: string, key: string): readonly string[] {
  return text.split("\n").flatMap((line) => {
    const [, name = "", value = ""] = /^\s*-?\s*([\w./-]+)\s*\+?=\s*(.*?)\s*$/.exec(line) ?? [];
    return name.replaceAll("/", ".").toLowerCase() === key.toLowerCase() ? [value.replace(/^"(.*)"$/, "$1")] : [];
  });
}

function lastAssignment(
  files: readonly ConfigFile[],
  key: string,
): { readonly path: string; readonly value: string } | undefined {
  return files.flatMap(({ path, text }) => assignments(text, key).map((value) => ({ path, value }))).at(-1);
}

// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from "node:child_process";
import { FakeLog } from "../../src/felix/fake-resources.ts";
import type { PacketFilterMetrics, PacketFilterPort, TableChange } from "../../src/felix/nft/ports.ts";
import { nftPacketFilter } from "../../src/felix/nft/run-nft.ts";
import type { FilterSettings } from "../../src/felix/nft/settings.ts";
import { TABLE_NAME } from "../../src/felix/nft/table.ts";
import { PacketFilter, type PacketFilterOptions } from "../../src/felix/packet-filter.ts";
import { systemClock } from "../../src/lib/system-clock.ts";
import { openNetns, withNetns } from "../../src/netlink/netns.ts";
import { TableMonitor } from "../../src/netlink/ops/table-monitor.ts";

let count = 0;

export const DEFAULTS: FilterSettings = {
  natOutgoing: true,
  natOutgoingExclusions: "IPPoolsOnly",
  randomFully: true,
};

/** Addresses of the world, by family. `world` is a machine beyond the node that knows no way to pods. */
export const NODE = { 4: "192.0.2.1", 6: "2001:db8::1" } as const;
export const WORLD = { 4: "192.0.2.9", 6: "2001:db8::9" } as const;

/** Remembers who has sent packets to this machine: pings and TCP. */
const SEEN = `
table inet seen {
  set addresses4 { type ipv4_addr; flags dynamic; }
  set addresses6 { type ipv6_addr; flags dynamic; }
  set ports { type inet_service; flags dynamic; }
  chain input {
    type filter hook input priority 0
    icmp type echo-request add @addresses4 { ip saddr }
    icmpv6 type echo-request add @addresses6 { ip6 saddr }
    meta nfproto ipv4 meta l4proto tcp add @addresses4 { ip saddr }
    meta nfproto ipv6 meta l4proto tcp add @addresses6 { ip6 saddr }
    meta l4proto tcp add @ports { tcp sport }
  }
}
`;

/** Counts what a packet filter counts. */
export class CountedMetrics implements PacketFilterMetrics {
  turns = 0;
  failures = 0;
  repaired = 0;
  readonly dropped: Map<string, number> = new Map();

  filterTurn(ok: boolean): void {
    this.turns++;
    if (!ok) this.failures++;
  }
  filterRepaired(repairs: number): void {
    this.repaired += repairs;
  }
  filterDropped(counter: string, packets: number): void {
    this.dropped.set(counter, (this.dropped.get(counter) ?? 0) + packets);
  }
}

/**
 * A node, a machine beyond it, and pods behind interfaces of the node, each a network namespace of the test's own whose
 * name begins with `nft-`. rp_filter is off everywhere, so that what is dropped is dropped by the table.
 */
export class PacketFilterWorld {
  readonly #prefix = `nft-${process.pid}-${count++}`;
  readonly #namespaces: string[] = [];
  readonly #filters: PacketFilter[] = [];
  readonly log: FakeLog = new FakeLog();
  readonly metrics: CountedMetrics = new CountedMetrics();
  /** Scripts that were carried out, of all filters. */
  readonly scripts: string[] = [];
  /** How often the table was read, by all filters. */
  listings = 0;

  constructor() {
    for (const name of ["node", "world"]) this.#addNamespace(name);
    this.#link({ from: "node", iface: "eth0", to: "world", peer: "eth0" });
    this.ip("node", `addr add ${NODE[4]}/24 dev eth0`);
    this.ip("node", `addr add ${NODE[6]}/64 dev eth0 nodad`);
    this.ip("world", `addr add ${WORLD[4]}/24 dev eth0`);
    this.ip("world", `addr add ${WORLD[6]}/64 dev eth0 nodad`);
    // The spoofed packet must have a way back, so that nothing but the table stops it.
    this.ip("node", `route add default via ${WORLD[4]}`);
    this.ip("node", `-6 route add default via ${WORLD[6]}`);
    this.run("world", "nft", "-f", "-", { input: SEEN });
  }

  /** Makes a pod as ADD wires one, its routes on the host left out: until `routeTo` it is a stranger. */
  addPod(name: string, ...addresses: readonly string[]): void {
    const iface = `cali${name}`;
    this.#addNamespace(name);
    this.#link({ from: "node", iface, to: name, peer: "eth0" });
    this.ip("node", `link set ${iface} address ee:ee:ee:ee:ee:ee`);
    this.ip("node", `addr add fe80::ecee:eeff:feee:eeee/64 dev ${iface} nodad`, { mayFail: true });
    this.#sysctl("node", `ipv4/conf/${iface}/proxy_arp`, 1);
    this.#sysctl("node", `ipv4/neigh/${iface}/proxy_delay`, 0);
    for (const address of addresses) this.addAddress(name, address);
    this.ip(name, "route add 169.254.1.1 dev eth0 scope link");
    this.ip(name, "route add default via 169.254.1.1");
    this.ip(name, "-6 route add default via fe80::ecee:eeff:feee:eeee dev eth0");
  }

  /** The pod's loopback becomes the node's, as far as the pod can do that, with the node's settings as ADD makes them. */
  openLoopback(pod: string): void {
    this.#sysctl("node", `ipv4/conf/cali${pod}/route_localnet`, 1);
    this.#sysctl(pod, "ipv4/conf/eth0/route_localnet", 1);
    this.ip(pod, "addr flush dev lo");
    this.ip(pod, "route add 127.0.0.1 via 169.254.1.1 dev eth0");
  }

  /** Gives the pod an address; nobody else is told. */
  addAddress(pod: string, address: string): void {
    this.ip(pod, `addr add ${address}/${address.includes(":") ? "128 nodad" : 32} dev eth0`);
  }

  removeAddress(pod: string, address: string): void {
    this.ip(pod, `addr del ${address}/${address.includes(":") ? 128 : 32} dev eth0`);
  }

  /** What ADD does last on the host. */
  routeTo(pod: string, ...addresses: readonly string[]): void {
    for (const address of addresses) this.ip("node", `route add ${address} dev cali${pod} scope link proto 80`);
  }

  /** Whether a ping with that source is answered. */
  ping(from: string, to: string, source?: string): boolean {
    const args = ["-c1", "-W1", "-n", ...(source === undefined ? [] : ["-I", source]), to];
    return spawnSync("ip", ["netns", "exec", this.name(from), "ping", ...args]).status === 0;
  }

  /** Opens a TCP connection, and tells its outcome: `refused` when the other end has answered that nobody listens. */
  connect(from: string, to: string, port: number): "refused" | "silent" {
    const script = `exec 3<>/dev/tcp/${to}/${port}`;
    const { stderr, status } = spawnSync(
      "ip",
      ["netns", "exec", this.name(from), "timeout", "1", "bash", "-c", script],
      { encoding: "utf8" },
    );
    if (status === 1 && stderr.includes("refused")) return "refused";
    if (status === 124) return "silent";
    throw new Error(`Connecting to ${to}:${port} ended with ${status}: ${stderr}`);
  }

  /** Sources of the packets that have reached the world since the last call. */
  sourcesSeen(): readonly string[] {
    const listed = ["addresses4", "addresses6"].flatMap((set) => this.#elements(set));
    for (const set of ["addresses4", "addresses6"]) this.run("world", "nft", "flush", "set", "inet", "seen", set);
    return listed;
  }

  /** Source ports of TCP that have reached the world since the last call. */
  portsSeen(): readonly number[] {
    const ports = this.#elements("ports").map(Number);
    this.run("world", "nft", "flush", "set", "inet", "seen", "ports");
    return ports;
  }

  /** Packets that the table has dropped, by counter. */
  dropped(counter = "unknown-source"): number {
    const text = this.run("node", "nft", "list", "counter", "inet", "gingham", counter);
    return Number(/packets (\d+)/.exec(text)?.[1]);
  }

  /** A filter like an agent's. Its first look is at once. */
  startFilter(settings: Partial<FilterSettings> = {}, options: Partial<PacketFilterOptions> = {}): PacketFilter {
    const port = nftPacketFilter({
      command: ["ip", "netns", "exec", this.name("node"), "nft"],
      changes: { watch: (onChange) => this.#watchTable(onChange) },
    });
    const watched: PacketFilterPort = {
      ...port,
      list: () => {
        this.listings++;
        return port.list();
      },
      apply: (script) => {
        this.scripts.push(script);
        return port.apply(script);
      },
    };
    const filter = new PacketFilter({
      port: watched,
      settings: { ...DEFAULTS, ...settings },
      clock: systemClock,
      random: Math.random,
      log: this.log,
      metrics: this.metrics,
      ...options,
    });
    this.#filters.push(filter);
    filter.start();
    return filter;
  }

  name(namespace: string): string {
    return `${this.#prefix}-${namespace}`;
  }

  ip(namespace: string, args: string, { mayFail = false }: { readonly mayFail?: boolean } = {}): void {
    try {
      execFileSync("ip", ["-n", this.name(namespace), ...args.split(" ")], { stdio: "pipe" });
    } catch (error) {
      if (!mayFail) throw error;
    }
  }

  run(namespace: string, ...args: readonly (string | { readonly input: string })[]): string {
    const words = args.filter((arg) => typeof arg === "string");
    const input = args.find((arg) => typeof arg !== "string")?.input ?? "";
    return execFileSync("ip", ["netns", "exec", this.name(namespace), ...words], {
      encoding: "utf8",
      input,
      stdio: "pipe",
    });
  }

  /** The whole ruleset with the kernel's handles: equal texts mean that nothing was written. */
  ruleset(): string {
    return this.run("node", "nft", "-s", "-a", "list", "ruleset");
  }

  async close(): Promise<void> {
    await Promise.all(this.#filters.map((filter) => filter.stop()));
    for (const name of this.#namespaces) execFileSync("ip", ["netns", "delete", name]);
  }

  #watchTable(onChange: (change: TableChange) => void): () => void {
    using netns = openNetns(`/run/netns/${this.name("node")}`);
    const monitor = withNetns(netns, () => new TableMonitor({ table: TABLE_NAME, onChange }));
    return () => monitor.close();
  }

  #elements(set: string): readonly string[] {
    const { nftables } = JSON.parse(this.run("world", "nft", "-j", "list", "set", "inet", "seen", set)) as {
      readonly nftables: readonly { readonly set?: { readonly elem?: readonly (string | number)[] } }[];
    };
    return nftables.flatMap(({ set: found }) => found?.elem ?? []).map(String);
  }

  #addNamespace(name: string): void {
    execFileSync("ip", ["netns", "add", this.name(name)]);
    this.#namespaces.push(this.name(name));
    this.ip(name, "link set lo up");
    const isNode = name === "node" ? 1 : 0;
    for (const family of ["ipv4", "ipv6"]) this.#sysctl(name, `${family}/conf/all/forwarding`, isNode);
    for (const scope of ["all", "default"]) {
      this.#sysctl(name, `ipv4/conf/${scope}/rp_filter`, 0);
      this.#sysctl(name, `ipv6/conf/${scope}/accept_dad`, 0);
    }
  }

  #link({ from, iface, to, peer }: Readonly<Record<"from" | "iface" | "to" | "peer", string>>): void {
    this.ip(from, `link add ${iface} type veth peer name ${peer} netns ${this.name(to)}`);
    this.ip(from, `link set ${iface} up`);
    this.ip(to, `link set ${peer} up`);
  }

  #sysctl(namespace: string, path: string, value: number): void {
    this.run(namespace, "sh", "-c", `echo ${value} > /proc/sys/net/${path}`);
  }
}

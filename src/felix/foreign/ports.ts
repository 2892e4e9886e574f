// SPDX-License-Identifier: Apache-2.0
import type { Family } from "../../net/ip.ts";
import type { KernelLink, KernelRoute } from "../ports.ts";

/** What was found on the machine, read and not judged. */
export interface ForeignFacts {
  /** Names of running programs, at most 15 letters each. Source: proc(5), /proc/PID/comm. */
  readonly programs: ReadonlySet<string>;
  /** Configuration files that are there, by what they configure; those that win come last. */
  readonly files: Readonly<Record<Configured, readonly ConfigFile[]>>;
  /** Chains at the forward hook of nftables, those of iptables-nft among them. */
  readonly forwardChains: readonly ForwardChain[];
  /** Likewise at the input hook, those that drop what no rule accepts. */
  readonly inputChains: readonly InputChain[];
  /** All chains of nftables. */
  readonly chains: readonly ChainName[];
  /** Families in whose legacy iptables, which nft does not show, Calico's rules are. */
  readonly legacyCalico: readonly LegacyFamily[];
  readonly links: readonly KernelLink[];
  /** Of the main table, both families. */
  readonly routes: readonly KernelRoute[];
  /** /proc/sys/net/ipv4/conf/NAME/rp_filter; `all` among them. 1 is strict. */
  readonly reversePath: ReadonlyMap<string, number>;
  readonly forwarding: Readonly<Record<Family, boolean>>;
}

export type LegacyFamily = "ip" | "ip6";

export type Configured = "networkManager" | "networkd" | "firewalldTrusted" | "firewalldPolicies" | "ufw" | "sysctl";

export interface ConfigFile {
  readonly path: string;
  readonly text: string;
}

export interface ChainName {
  /** `ip`, `ip6`, `inet`, … */
  readonly family: string;
  readonly table: string;
  readonly chain: string;
}

/** Whose packets are dropped unless a rule accepts them. */
export interface ForwardChain extends ChainName {
  /** `drop` also where the last rule drops or rejects all that is left. */
  readonly policy: "accept" | "drop";
  /** What rules on its way accept without a further condition: interfaces (`cali*`), networks (`10.0.0.0/16`), everything (`*`). */
  readonly acceptsFrom: readonly string[];
  readonly acceptsTo: readonly string[];
  /** Legacy iptables, which nft does not show. */
  readonly isLegacy?: true;
}

export interface InputChain extends ChainName {
  /** UDP ports that some rule on its way may accept packets of other nodes to; all of them where nobody can tell. */
  readonly acceptsUDP: readonly PortRange[];
}

/** Bounds: both are in it. */
export interface PortRange {
  readonly min: number;
  readonly max: number;
}

/** What the agent itself is there for. */
export interface OwnNeeds {
  /** CIDRs of all pools, as text. */
  readonly pools: readonly string[];
  readonly families: readonly Family[];
  /** Where packets between nodes are in VXLAN. */
  readonly vxlan?: { readonly port: number; readonly families: readonly Family[] };
}

/** Reads the facts. Implemented by `gather.ts`. Never rejects for a file or program that is missing. */
export interface ForeignPort {
  read(): Promise<ForeignFacts>;
  /** One table as nft's JSON; empty when there is none. */
  listTable(family: string, table: string): Promise<string>;
  /** What `iptables-legacy-save` prints. Errors: of the program */
  saveLegacy(family: LegacyFamily): Promise<string>;
  /** @param script for `iptables-legacy-restore --noflush`. Errors: of the program, with its words */
  restoreLegacy(family: LegacyFamily, script: string): Promise<void>;
}

// SPDX-License-Identifier: Apache-2.0
import { cidrOf } from "../net/cidr.ts";
import { type Family, formatIP, type IP } from "../net/ip.ts";
import type { Finding } from "./calc/findings.ts";
import {
  FALLBACK_MTU_BYTES,
  hostMTU,
  largePods,
  largeTunnels,
  MTU_IFACE_PATTERN,
  type MTUSettings,
  podMTU,
  tunnelMTU,
} from "./calc/mtu.ts";
import { addressOf } from "./calc/node-addresses.ts";
import type { NodeClaims } from "./calc/node-status.ts";
import type { CalcState } from "./calc/state.ts";
import type { RouteManager } from "./managers/route-manager.ts";
import type { TunnelNeeds, VXLANNeed } from "./tunnels.ts";

/** What follows from this node's addresses and the links that carry them: its subnets, the MTU, the ends of its tunnels. */
export class LocalNetwork {
  readonly #state: CalcState;
  readonly #manager: RouteManager;
  #mtu: MTUSettings;
  /** As last known: a link that is down for a moment is no reason for another one. Units: bytes. */
  #hostMTUBytes: number | undefined;
  /** The MTU is a link's, not what is assumed where none was ever found. */
  #hasLink = false;

  constructor(
    state: CalcState,
    manager: RouteManager,
    mtu: MTUSettings = { mtuIfacePattern: new RegExp(MTU_IFACE_PATTERN) },
  ) {
    this.#state = state;
    this.#manager = manager;
    this.#mtu = mtu;
  }

  configure(mtu: MTUSettings): void {
    this.#mtu = mtu;
  }

  /** 0 while links are not known. Units: bytes. */
  get hostMTUBytes(): number {
    return this.#hostMTUBytes ?? 0;
  }

  /** Of new pods: what fits every encapsulation in use; 0 while links are not known. Units: bytes. */
  get podMTUBytes(): number {
    const hostBytes = this.#hostMTUBytes;
    return hostBytes === undefined ? 0 : podMTU(hostBytes, this.#state.encapsulations, this.#mtu);
  }

  findings(): readonly Finding[] {
    const { encapsulations } = this.#state;
    const tunnels = this.#hasLink ? largeTunnels(this.hostMTUBytes, encapsulations, this.#mtu) : [];
    return [...largePods(this.#manager.links, this.podMTUBytes), ...tunnels];
  }

  /** Links or addresses may have changed. */
  noteMTU(): void {
    const parents = [this.#manager.parent(4), this.#manager.parent(6)];
    const found = hostMTU(this.#manager.links, this.#mtu.mtuIfacePattern, parents);
    this.#hasLink ||= found !== undefined;
    this.#hostMTUBytes = found ?? this.#hostMTUBytes ?? FALLBACK_MTU_BYTES;
  }

  /** Tells the calculation what CrossSubnet pools go by. While an address is away from its link, the last answer counts. */
  noteSubnets(): void {
    for (const family of [4, 6] as const) {
      const address = this.#address(family);
      const length = this.#prefixLength(family) ?? address?.prefixLength;
      if (address === undefined) this.#state.setLocalSubnet(family, undefined);
      else if (length !== undefined) this.#state.setLocalSubnet(family, cidrOf(address.ip, length));
    }
  }

  tunnelNeeds(): TunnelNeeds {
    const hostBytes = this.#hostMTUBytes ?? FALLBACK_MTU_BYTES;
    const vxlan = (family: Family): VXLANNeed => ({
      network: this.#state.vxlan(family),
      parent: this.#manager.parent(family),
      mtuBytes: tunnelMTU(hostBytes, "vxlan", family, this.#mtu),
    });
    const { ipip: end, poolCIDRs } = this.#state;
    const ipip = { end, poolCIDRs, mtuBytes: tunnelMTU(hostBytes, "ipip", 4, this.#mtu) };
    return { vxlan: { 4: vxlan(4), 6: vxlan(6) }, ipip };
  }

  /** What this node's object should say of it. @param duplicates addresses that another node has, too */
  claims(duplicates: ReadonlyMap<IP, unknown>): NodeClaims {
    const addresses: Partial<Record<Family, string>> = {};
    for (const family of [4, 6] as const) {
      const address = this.#address(family);
      const length = this.#prefixLength(family);
      if (this.#state.hasNone(family)) addresses[family] = "";
      // Whoever had it first said so before: the other one is the newcomer, and must not say it.
      else if (address !== undefined && length !== undefined && !duplicates.has(address.ip))
        addresses[family] = `${formatIP(address.ip)}/${length}`;
    }
    return { addresses, ...(this.#hasLink && { linkMTUBytes: this.hostMTUBytes }) };
  }

  #address(family: Family): ReturnType<typeof addressOf> {
    const local = this.#state.localAddresses;
    return local && addressOf(local, family);
  }

  /** Of this node's subnet: as somebody has set it, else as its link has it. */
  #prefixLength(family: Family): number | undefined {
    const address = this.#address(family);
    const parent = this.#manager.parent(family);
    return address?.method === "explicit" && parent !== undefined ? address.prefixLength : parent?.prefixLength;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { KindUnsupportedError } from "./errors.ts";
import type { FakeRouteDataplane } from "./fake-route-dataplane.ts";
import { entryKey } from "./managers/vxlan-manager.ts";
import type { DeviceChange, TunnelDataplane, TunnelEntry, VXLANDevice } from "./ports.ts";

/**
 * Tunnels beside the links of a fake kernel. It passes `tunnel-dataplane.contract.ts`, which the real one passes, too.
 *
 * `put` and `remove` are what others do to entries. `changes` and `written` are what was asked through the port.
 */
export class FakeTunnelDataplane implements TunnelDataplane {
  readonly changes: DeviceChange[] = [];
  readonly written: TunnelEntry[] = [];
  readonly deleted: TunnelEntry[] = [];
  /** Makes a change fail. */
  refuse: ((what: DeviceChange | TunnelEntry) => Error | undefined) | undefined;
  /** Makes a listing fail. */
  refuseListing: ((ifIndex: number) => Error | undefined) | undefined;
  /** Whether the kernel has IP-in-IP. */
  hasIPIP = true;
  readonly #kernel: FakeRouteDataplane;
  readonly #entries = new Map<string, TunnelEntry>();

  constructor(kernel: FakeRouteDataplane) {
    this.#kernel = kernel;
  }

  get entries(): readonly TunnelEntry[] {
    return [...this.#entries.values()].filter(({ ifIndex }) => this.#kernel.linkOf(ifIndex) !== undefined);
  }

  put(entry: TunnelEntry): void {
    this.#set(entry);
    this.#kernel.tellNeigh();
  }

  remove(entry: TunnelEntry): void {
    this.#entries.delete(keyOf(entry));
    this.#kernel.tellNeigh();
  }

  async changeDevice(change: DeviceChange): Promise<void> {
    this.changes.push(change);
    const error = this.refuse?.(change);
    if (error !== undefined) throw error;
    switch (change.kind) {
      case "create":
        this.#create(change.device);
        return;
      case "createIPIP":
        if (!this.hasIPIP) throw new KindUnsupportedError("ipip", undefined);
        this.#createIPIP(change.name);
        return;
      case "down": {
        if (this.#kernel.linkOf(change.ifIndex) !== undefined) this.#kernel.setUp(change.ifIndex, false);
        return;
      }
      case "delete":
        if (this.#kernel.linkOf(change.ifIndex) !== undefined) this.#kernel.deleteLink(change.ifIndex);
        return;
      case "set": {
        const link = this.#kernel.linkOf(change.ifIndex);
        if (link === undefined) throw new Error("RTM_SETLINK failed with ENODEV");
        const { mtuBytes, mac } = change;
        this.#kernel.putLink({ ...link, up: true, mtuBytes, ...(mac !== undefined && { mac }) });
        if (mac === undefined) return;
        for (const [key, { kind, ifIndex }] of this.#entries)
          if (kind === "neigh" && ifIndex === change.ifIndex) this.#entries.delete(key);
        return;
      }
      case "addAddr":
        if (this.#kernel.linkOf(change.ifIndex) === undefined) throw new Error("RTM_NEWADDR failed with ENODEV");
        this.#kernel.addAddr(change.ifIndex, change.ip, change.prefixLength);
        return;
      case "deleteAddr":
        this.#kernel.deleteAddr(change.ifIndex, change.ip);
        return;
      default:
        change satisfies never;
    }
  }

  async listEntries(ifIndex: number): Promise<readonly TunnelEntry[]> {
    const error = this.refuseListing?.(ifIndex);
    if (error !== undefined) throw error;
    return this.entries.filter((entry) => entry.ifIndex === ifIndex);
  }

  async replaceEntries(entries: readonly TunnelEntry[]): Promise<readonly (Error | undefined)[]> {
    return entries.map((entry) => {
      this.written.push(entry);
      const error = this.refuse?.(entry);
      if (error !== undefined) return error;
      if (this.#kernel.linkOf(entry.ifIndex) === undefined) return new Error("RTM_NEWNEIGH failed with ENODEV");
      this.#set(entry);
      return undefined;
    });
  }

  async deleteEntries(entries: readonly TunnelEntry[]): Promise<readonly (Error | undefined)[]> {
    return entries.map((entry) => {
      this.deleted.push(entry);
      const error = this.refuse?.(entry);
      if (error === undefined) this.#entries.delete(keyOf(entry));
      return error;
    });
  }

  #create({ name, mac, mtuBytes, ...vxlan }: VXLANDevice): void {
    if (this.#kernel.linkNamed(name) !== undefined) throw new Error("RTM_NEWLINK failed with EEXIST");
    const ifIndex = this.#kernel.nextIfIndex;
    this.#kernel.putLink({ ifIndex, name, up: true, mtuBytes, mac, vxlan });
  }

  /** That it is there already is no error. */
  #createIPIP(name: string): void {
    if (this.#kernel.linkNamed(name) !== undefined) return;
    const ifIndex = this.#kernel.nextIfIndex;
    this.#kernel.putLink({ ifIndex, name, up: false, mtuBytes: 1480, ipip: {} });
  }

  /** Replacing moves the one remote of a MAC. */
  #set(entry: TunnelEntry): void {
    if (entry.kind === "fdb") {
      for (const [key, other] of this.#entries) {
        const isSameMAC = other.kind === "fdb" && other.ifIndex === entry.ifIndex && other.mac === entry.mac;
        if (isSameMAC) this.#entries.delete(key);
      }
    }
    this.#entries.set(keyOf(entry), entry);
  }
}

function keyOf(entry: TunnelEntry): string {
  return `${entry.ifIndex} ${entryKey(entry)}`;
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../lib/clock.ts";
import type { Family } from "../net/ip.ts";
import type { Finding } from "./calc/findings.ts";
import type { VXLANNetwork } from "./calc/vxlan.ts";
import { IPIPDevice } from "./drivers/ipip-device.ts";
import { type EntryReport, TunnelEntries } from "./drivers/tunnel-entries.ts";
import { VXLANDevices } from "./drivers/vxlan-devices.ts";
import type { IPIPNeed } from "./managers/ipip-manager.ts";
import { type VXLANSettings, wishForDevice } from "./managers/vxlan-manager.ts";
import { VXLAN_DEVICES } from "./ownership.ts";
import type { KernelAddr, KernelLink, TunnelDataplane, TunnelReport } from "./ports.ts";

export interface TunnelsOptions {
  readonly port: TunnelDataplane;
  readonly settings: VXLANSettings;
  readonly clock: Clock;
  readonly random: () => number;
}

/** What a turn knows of what tunnels are for. */
export interface TunnelNeeds {
  readonly vxlan: Readonly<Record<Family, VXLANNeed>>;
  readonly ipip: IPIPNeed;
}

/** Of one family. */
export interface VXLANNeed {
  /** Undefined: no pool of the family is in VXLAN. */
  readonly network: VXLANNetwork | undefined;
  readonly parent: { readonly ifIndex: number } | undefined;
  readonly mtuBytes: number;
}

/** A device is made, and gets its address; one look more. */
const DEVICE_PASSES = 3;
/** After a hint that entries changed. Units: milliseconds. */
const RESYNC_SPACING_MS = 200;

/**
 * The VXLAN devices of both families, the other ends on them, and the IP-in-IP device, within Felix's turn: `applyDevices`,
 * `update`, then routes, then `sweep`. So what routes need is there before them, and goes after them.
 */
export class Tunnels {
  readonly #clock: Clock;
  #settings: VXLANSettings;
  readonly #devices: VXLANDevices;
  readonly #ipip: IPIPDevice;
  readonly #entries: Readonly<Record<Family, TunnelEntries>>;
  #links: ReadonlyMap<string, number> = new Map();
  #isDirty = false;
  #resyncAllowedMs = 0;
  #error: Error | undefined;
  #done: TunnelReport = { updated: 0, deleted: 0, failed: 0, restored: [] };

  constructor(options: TunnelsOptions) {
    this.#clock = options.clock;
    this.#settings = options.settings;
    this.#devices = new VXLANDevices(options);
    this.#ipip = new IPIPDevice(options);
    this.#entries = { 4: new TunnelEntries(options), 6: new TunnelEntries(options) };
  }

  /** Entries in the kernel, as far as is known. */
  get size(): number {
    return this.#entries[4].size + this.#entries[6].size;
  }

  /** Counts from the next turn on. Other immutable properties mean that the device is made anew. */
  configure(settings: VXLANSettings): void {
    this.#settings = settings;
  }

  onLinks(links: Iterable<KernelLink>, addrs: readonly KernelAddr[]): void {
    const all = [...links];
    this.#links = new Map(all.flatMap(({ name, ifIndex, vxlan }) => (vxlan === undefined ? [] : [[name, ifIndex]])));
    this.#devices.onLinks(all, addrs);
    this.#ipip.onLinks(all, addrs);
  }

  /** Somebody else changed entries, or may have. */
  onEntriesChanged(): void {
    this.#isDirty = true;
  }

  requestResync(): void {
    for (const entries of Object.values(this.#entries)) entries.requestResync();
  }

  /** Routes and entries need the devices, and these the links as they are now. Errors: those of `readLinks`. */
  async applyDevices(turn: {
    readonly needs: () => TunnelNeeds;
    /** Lists links and addresses again, and passes them to `onLinks`. */
    readonly readLinks: () => Promise<void>;
  }): Promise<void> {
    this.#want(turn.needs());
    for (let pass = 0; pass < DEVICE_PASSES; pass++) {
      const reports = [await this.#devices.apply(), await this.#ipip.apply()];
      for (const { isChanged, failed, restored } of reports) {
        const names = restored.map((name) => `device ${name}`);
        this.#add({ updated: isChanged ? 1 : 0, deleted: 0, failed, restored: names });
      }
      if (!reports.some(({ isChanged }) => isChanged)) return;
      await turn.readLinks();
      this.#want(turn.needs());
    }
  }

  /** Routes must not wait for entries that cannot be read: `sweep` tells of errors. */
  async update(): Promise<void> {
    const nowMs = this.#clock.nowMs();
    if (this.#isDirty && nowMs >= this.#resyncAllowedMs) {
      this.#isDirty = false;
      this.#resyncAllowedMs = nowMs + RESYNC_SPACING_MS;
      this.requestResync();
    }
    await this.#each((entries) => entries.update());
  }

  /**
   * Removes what no route needs any more.
   *
   * @param isUsed whether a route of ours leads through the link of that index
   * @param onDevices called when devices or their addresses went, so that the links have to be listed
   * Errors: rejects when a listing or the kernel's side as such failed, here or in `update`.
   */
  async sweep(isUsed: (ifIndex: number) => boolean, onDevices: () => void): Promise<void> {
    await this.#each((entries) => entries.sweep());
    for (const devices of [this.#devices, this.#ipip]) {
      const { isChanged, failed } = await devices.sweep(isUsed);
      this.#add({ updated: 0, deleted: isChanged ? 1 : 0, failed, restored: [] });
      if (isChanged) onDevices();
    }
    const error = this.#error;
    this.#error = undefined;
    if (error !== undefined) throw error;
  }

  /** What was done since the last call. */
  takeReport(): TunnelReport {
    const done = this.#done;
    this.#done = { updated: 0, deleted: 0, failed: 0, restored: [] };
    return done;
  }

  findings(): readonly Finding[] {
    return [this.#devices, this.#ipip, this.#entries[4], this.#entries[6]].flatMap((part) => part.findings());
  }

  /** What this kernel lacks of what is needed, in words. */
  get unsupported(): string | undefined {
    return this.#ipip.findings().find(({ code }) => code === "EncapsulationUnsupported")?.message;
  }

  /** When to have another turn although nothing changes. Units: milliseconds from now. */
  get againInMs(): number | undefined {
    const parts = [this.#devices, this.#ipip, this.#entries[4], this.#entries[6]];
    const due = parts.flatMap(({ nextRetryMs }) => nextRetryMs ?? []);
    if (this.#isDirty) due.push(this.#resyncAllowedMs);
    return due.length === 0 ? undefined : Math.max(1, Math.min(...due) - this.#clock.nowMs());
  }

  #want({ vxlan, ipip }: TunnelNeeds): void {
    this.#ipip.want(ipip);
    for (const family of [4, 6] as const) {
      const { network, parent, mtuBytes } = vxlan[family];
      const name = VXLAN_DEVICES[family];
      this.#devices.wish(name, wishForDevice(family, network, { settings: this.#settings, parent, mtuBytes }));
      this.#entries[family].want(network?.peers ?? NO_PEERS, network && this.#links.get(name));
    }
  }

  /** One family's trouble is not the other's. */
  async #each(work: (entries: TunnelEntries) => Promise<EntryReport>): Promise<void> {
    for (const entries of Object.values(this.#entries)) {
      await work(entries).then(
        (report) => this.#add(report),
        (error: unknown) => {
          this.#error ??= error instanceof Error ? error : new Error(String(error));
        },
      );
    }
  }

  #add({ updated, deleted, failed, restored }: EntryReport): void {
    const sum = this.#done;
    this.#done = {
      updated: sum.updated + updated,
      deleted: sum.deleted + deleted,
      failed: sum.failed + failed,
      restored: [...sum.restored, ...restored],
    };
  }
}

/** The same array each time, which tells that nothing changed. */
const NO_PEERS: readonly [] = [];

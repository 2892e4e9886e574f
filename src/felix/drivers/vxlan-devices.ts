// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { DeltaTracker } from "../../lib/delta-tracker.ts";
import { describeError } from "../../lib/errors.ts";
import type { Finding } from "../calc/findings.ts";
import {
  type ActualDevice,
  type DeviceState,
  type DeviceWish,
  readDevices,
  sameDevice,
  stepsTo,
} from "../managers/vxlan-manager.ts";
import type { DeviceChange, KernelAddr, KernelLink, TunnelDataplane } from "../ports.ts";
import { FailureLedger } from "./failure-ledger.ts";

const BACKOFF = { baseMs: 100, maxMs: 30_000 };

/** What one `apply` did. */
export interface DeviceReport {
  /** The kernel's links or addresses are others than those that were listed. */
  readonly isChanged: boolean;
  readonly failed: number;
  /** Devices that were right before, and that others had removed or changed. */
  readonly restored: readonly string[];
}

/**
 * Makes the VXLAN devices agree with the wishes.
 *
 * Invariants: devices are known by name (see `ownership.ts`); one that agrees is never touched, so a restart drops no packet;
 * a link of such a name that is no VXLAN device is left alone and named. While a wish holds, whatever is there stays.
 * Hazards: a device goes with its parent link; a device that is made anew has a new index, no address and no entries.
 */
export class VXLANDevices {
  readonly #port: TunnelDataplane;
  readonly #tracker = new DeltaTracker<string, DeviceState>(sameDevice);
  readonly #failures: FailureLedger;
  /** Why a device stays as it is, by name. */
  readonly #held = new Map<string, string>();
  readonly #lost = new Set<string>();
  #actual: ReadonlyMap<string, ActualDevice> = new Map();
  #taken: readonly string[] = [];

  constructor(options: { readonly port: TunnelDataplane; readonly clock: Clock; readonly random: () => number }) {
    this.#port = options.port;
    this.#failures = new FailureLedger({ ...options, backoff: BACKOFF });
  }

  wish(name: string, wish: DeviceWish): void {
    this.#held.delete(name);
    const previous = this.#tracker.desired.get(name);
    if (wish.kind === "want") {
      if (previous !== undefined && sameDevice(previous, wish.device)) return;
      this.#tracker.setDesired(name, wish.device);
    } else {
      this.#tracker.deleteDesired(name);
      if (wish.kind === "hold") this.#held.set(name, wish.reason);
    }
    // A new wish is a new start.
    if (previous !== undefined || wish.kind === "want") this.#failures.succeeded(name);
    this.#lost.delete(name);
  }

  onLinks(links: Iterable<KernelLink>, addrs: readonly KernelAddr[]): void {
    const { devices, taken } = readDevices(links, addrs);
    for (const [name, desired] of this.#tracker.desired) {
      const actual = devices.get(name);
      const isRight = actual !== undefined && sameDevice(actual, desired);
      if (!isRight && !this.#tracker.pendingUpdates.has(name)) this.#lost.add(name);
    }
    this.#actual = devices;
    this.#taken = taken;
    this.#tracker.replaceDataplane(devices);
  }

  /** Makes what is missing or wrong. Never rejects: what fails is told by `findings`, and tried again. */
  async apply(): Promise<DeviceReport> {
    const restored: string[] = [];
    let [isChanged, failed] = [false, 0];
    for (const [name, desired] of this.#tracker.pendingUpdates) {
      if (!this.#isDue(name)) continue;
      const steps = stepsTo(desired, this.#actual.get(name));
      isChanged = true;
      if (!(await this.#take(name, steps))) failed++;
      else if (this.#lost.delete(name)) restored.push(name);
    }
    return { isChanged, failed, restored };
  }

  /** Deletes what nobody needs. Never rejects, as above. */
  async sweep(): Promise<DeviceReport> {
    let [isChanged, failed] = [false, 0];
    for (const name of this.#tracker.pendingDeletions.keys()) {
      const actual = this.#actual.get(name);
      if (actual === undefined || this.#held.has(name) || !this.#isDue(name)) continue;
      isChanged = true;
      if (!(await this.#take(name, [{ kind: "delete", ifIndex: actual.ifIndex }]))) failed++;
    }
    return { isChanged, failed, restored: [] };
  }

  findings(): readonly Finding[] {
    const held = [...this.#held].map(([name, reason]) => ({
      code: "TunnelWaits" as const,
      subject: name,
      message: `Device ${name} waits: ${reason}`,
    }));
    const taken = this.#taken.map((name) => ({
      code: "TunnelRefused" as const,
      subject: name,
      message: `Link ${name} is no VXLAN device, and nobody knows whose; delete it (ip link delete ${name})`,
    }));
    const refused = this.#failures.messages().map(([name, message]) => ({
      code: "TunnelRefused" as const,
      subject: name,
      message: `Kernel refused device ${name}: ${message}; retrying`,
    }));
    return [...held, ...taken, ...refused];
  }

  get nextRetryMs(): number | undefined {
    return this.#failures.nextRetryMs;
  }

  #isDue(name: string): boolean {
    return this.#failures.isDue(name) && !this.#taken.includes(name);
  }

  /** All steps are tried, since an MTU that is refused is no reason to be without an address. */
  async #take(name: string, steps: readonly DeviceChange[]): Promise<boolean> {
    const errors: string[] = [];
    for (const step of steps) {
      await this.#port.changeDevice(step).catch((error: unknown) => errors.push(describeError(error)));
    }
    if (errors.length === 0) this.#failures.succeeded(name);
    else this.#failures.failed(name, errors.join("; "));
    return errors.length === 0;
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { describeError } from "../../lib/errors.ts";
import type { Finding } from "../calc/findings.ts";
import type { LinkSetting, PodLinks, WorkloadEndpoint } from "../ports.ts";
import { ResyncSchedule } from "../resync-schedule.ts";

export interface PodLinkSettingsOptions {
  readonly port: PodLinks;
  readonly clock: Clock;
  /** Between two looks at all links. Units: milliseconds. */
  readonly refreshMs: number;
}

/** Keeps the settings of pods' links as the wiring has made them: without proxy ARP a pod has no gateway. */
export class PodLinkSettings {
  readonly #options: PodLinkSettingsOptions;
  readonly #schedule: ResyncSchedule;
  #hasLooked = false;
  #finding: Finding | undefined;

  constructor(options: PodLinkSettingsOptions) {
    this.#options = options;
    this.#schedule = new ResyncSchedule(options.refreshMs);
  }

  /** Units: Unix milliseconds. */
  get dueMs(): number {
    return this.#schedule.dueMs;
  }

  configure(refreshMs: number): void {
    this.#schedule.configure(refreshMs, this.#options.clock.nowMs());
  }

  /** The kernel says that some link's settings were changed. */
  onChange(): void {
    this.#schedule.hint(this.#options.clock.nowMs());
  }

  /** Looks, when it is time, and writes what differs. Returns what others have changed since the first look, in words. */
  async apply(endpoints: Iterable<WorkloadEndpoint>): Promise<readonly string[]> {
    const { clock } = this.#options;
    const startedMs = clock.nowMs();
    if (startedMs < this.#schedule.dueMs) return [];
    this.#schedule.begin(startedMs);
    // What the wiring is still at is not compared.
    const restored = await this.#restore([...endpoints].filter(({ hostIfIndex }) => hostIfIndex !== 0));
    this.#schedule.done(startedMs, clock.nowMs());
    const isFirst = !this.#hasLooked;
    this.#hasLooked = true;
    return isFirst ? [] : restored.map((setting) => `setting ${formatSetting(setting)}`);
  }

  findings(): readonly Finding[] {
    return this.#finding === undefined ? [] : [this.#finding];
  }

  async #restore(endpoints: readonly WorkloadEndpoint[]): Promise<readonly LinkSetting[]> {
    const { port } = this.#options;
    try {
      const changed = await port.listChanged(endpoints.map(({ hostIface, ips }) => ({ hostIface, ips })));
      const errors = changed.length === 0 ? [] : await port.write(changed);
      const failed = changed.filter((_, i) => errors[i] !== undefined);
      this.#note(
        errors.find((error) => error !== undefined),
        failed,
      );
      return changed.filter((_, i) => errors[i] === undefined);
    } catch (error) {
      this.#note(error, []);
      return [];
    }
  }

  #note(error: unknown, failed: readonly LinkSetting[]): void {
    this.#finding = undefined;
    if (error === undefined) return;
    const [first, ...more] = failed.map(formatSetting);
    const subject = first ?? "all";
    const what =
      first === undefined ? "settings of pods' links" : `${first}${more.length > 0 ? ` and ${more.length} more` : ""}`;
    const message = `Cannot restore ${what}: ${describeError(error)}; such a pod may reach nothing`;
    this.#finding = { code: "SettingRefused", subject, message };
  }
}

/** As `sysctl` has it, with the dots of a link's name as slashes. */
export function formatSetting({ path, value }: LinkSetting): string {
  return `${["net", ...path].map((part) => part.replaceAll(".", "/")).join(".")} = ${value}`;
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import { describeError } from "../../lib/errors.ts";
import type { CIDR } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";
import type { Finding } from "../calc/findings.ts";
import { isKindUnsupported } from "../errors.ts";
import { type IPIPNeed, readIPIPDevice, stepsFromIPIP, stepsToIPIP } from "../managers/ipip-manager.ts";
import { IPIP_DEVICE } from "../ownership.ts";
import type { DeviceChange, KernelAddr, KernelLink, TunnelDataplane } from "../ports.ts";
import { FailureLedger } from "./failure-ledger.ts";
import type { DeviceReport } from "./vxlan-devices.ts";

const BACKOFF = { baseMs: 100, maxMs: 30_000 };

/**
 * Makes the IP-in-IP device agree with the need.
 *
 * Invariants: one that agrees is never touched; `apply` makes and changes it, before the routes that need it, and `sweep` takes
 * away what is ours on it, after the routes that needed it. Hazard: on a kernel without IP-in-IP every attempt fails until
 * somebody loads the module, so it goes on trying, and says why its routes wait.
 */
export class IPIPDevice {
  readonly #port: TunnelDataplane;
  readonly #failures: FailureLedger;
  /** What this process has put on the device. */
  readonly #known = new Set<IP>();
  #links: readonly KernelLink[] = [];
  #addrs: readonly KernelAddr[] = [];
  #need: IPIPNeed | undefined;
  #isUnsupported = false;
  /** It was right when it was last looked at. */
  #wasRight = false;

  constructor(options: { readonly port: TunnelDataplane; readonly clock: Clock; readonly random: () => number }) {
    this.#port = options.port;
    this.#failures = new FailureLedger({ ...options, backoff: BACKOFF });
  }

  want(need: IPIPNeed): void {
    const previous = this.#need;
    this.#need = need;
    if (previous?.end?.tunnelIP === need.end?.tunnelIP && previous?.mtuBytes === need.mtuBytes) return;
    // A new need is a new start, and what differs from it nobody else has changed.
    this.#failures.succeeded(IPIP_DEVICE);
    this.#wasRight = false;
  }

  onLinks(links: readonly KernelLink[], addrs: readonly KernelAddr[]): void {
    this.#links = links;
    this.#addrs = addrs;
  }

  /** Never rejects: what fails is told by `findings`, and tried again. */
  async apply(): Promise<DeviceReport> {
    const actual = this.#read();
    const steps = this.#need === undefined || actual === "taken" ? [] : stepsToIPIP(this.#need, actual);
    const report = await this.#take(steps);
    const isRestored = this.#wasRight && report.isChanged && report.failed === 0;
    if (steps.length === 0) this.#wasRight = actual !== undefined && this.#need?.end !== undefined;
    else if (report.isChanged) this.#wasRight = false;
    return { ...report, restored: isRestored ? [IPIP_DEVICE] : [] };
  }

  /**
   * As above. While a route leads through the device its address stays, too: with the last one the kernel drops all routes.
   *
   * @param isUsed whether a route of ours leads through the device of that index
   */
  async sweep(isUsed: (ifIndex: number) => boolean): Promise<DeviceReport> {
    const actual = this.#read();
    const isNeeded = this.#need?.end !== undefined;
    if (isNeeded || actual === undefined || actual === "taken" || isUsed(actual.ifIndex)) return NOTHING;
    const report = await this.#take(stepsFromIPIP(actual));
    if (report.isChanged && report.failed === 0) this.#known.clear();
    return report;
  }

  findings(): readonly Finding[] {
    if (this.#need?.end === undefined) return [];
    if (this.#read() === "taken") {
      const message = `Link ${IPIP_DEVICE} leads to one other end, and nobody knows whose it is; delete it (ip link delete ${IPIP_DEVICE})`;
      return [{ code: "TunnelRefused", subject: IPIP_DEVICE, message }];
    }
    return this.#failures.messages().map(([subject, why]) => {
      if (!this.#isUnsupported)
        return { code: "TunnelRefused", subject, message: `Kernel refused device ${subject}: ${why}; retrying` };
      const step = "load its module on this node (modprobe ipip), or let the pools use VXLAN";
      const message = `This node's kernel has no IP-in-IP, so it reaches no pod that IPPools with ipipMode send through it: ${step}`;
      return { code: "EncapsulationUnsupported", subject: "ipip", message };
    });
  }

  get nextRetryMs(): number | undefined {
    return this.#failures.nextRetryMs;
  }

  #read(): ReturnType<typeof readIPIPDevice> {
    const poolCIDRs: readonly CIDR[] = this.#need?.poolCIDRs ?? [];
    return readIPIPDevice(this.#links, this.#addrs, { poolCIDRs, known: this.#known });
  }

  async #take(steps: readonly DeviceChange[]): Promise<DeviceReport> {
    if (steps.length === 0 || !this.#failures.isDue(IPIP_DEVICE)) return NOTHING;
    const errors: unknown[] = [];
    for (const step of steps) {
      if (step.kind === "addAddr") this.#known.add(step.ip);
      await this.#port.changeDevice(step).catch((error: unknown) => errors.push(error));
    }
    this.#isUnsupported = errors.some(isKindUnsupported);
    if (errors.length === 0) this.#failures.succeeded(IPIP_DEVICE);
    else this.#failures.failed(IPIP_DEVICE, errors.map(describeError).join("; "));
    return { isChanged: errors.length < steps.length, failed: errors.length > 0 ? 1 : 0, restored: [] };
  }
}

const NOTHING: DeviceReport = { isChanged: false, failed: 0, restored: [] };

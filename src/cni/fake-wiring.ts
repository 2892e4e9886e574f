// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../net/ip.ts";
import { parseMAC } from "../net/mac.ts";
import { WiringError } from "../netlink/errors.ts";
import type { NetnsIdentity, PodWiring, WiredPod, WiringPlan } from "./ports.ts";

interface Netns extends NetnsIdentity {
  /** Interfaces by name; the value is the host link of a pair, or undefined for one that is not ours. */
  readonly ifaces: Map<string, FakeLink | undefined>;
}

/** One veth pair. */
export interface FakeLink {
  readonly hostIface: string;
  readonly hostIfIndex: number;
  readonly contIface: string;
  readonly netns: NetnsIdentity;
  readonly ips: readonly IP[];
}

/** A kernel in memory: namespaces by path, pairs by their host's end. */
export class FakeKernel {
  readonly #namespaces = new Map<string, Netns>();
  readonly #links = new Map<string, FakeLink>();
  #nextInode = 4_026_532_000n;
  #nextIfIndex = 10;

  /** A new namespace at the path; whatever was there is gone. */
  addNetns(path: string): void {
    this.removeNetns(path);
    this.#namespaces.set(path, { dev: 4n, inode: this.#nextInode++, ifaces: new Map() });
  }

  /** A namespace takes its interfaces with it, and each the other end. */
  removeNetns(path: string): void {
    for (const link of this.#namespaces.get(path)?.ifaces.values() ?? []) {
      if (link !== undefined) this.#links.delete(link.hostIface);
    }
    this.#namespaces.delete(path);
  }

  /** An interface that is not ours. */
  addForeignIface(path: string, name: string): void {
    this.netns(path).ifaces.set(name, undefined);
  }

  /** Everything dies but the disk. */
  reboot(): void {
    for (const path of [...this.#namespaces.keys()]) this.removeNetns(path);
  }

  get links(): readonly FakeLink[] {
    return [...this.#links.values()];
  }

  linkOf(hostIface: string): FakeLink | undefined {
    return this.#links.get(hostIface);
  }

  /** @throws WiringError NetnsGone */
  netns(path: string): Netns {
    const netns = this.#namespaces.get(path);
    if (netns === undefined) throw new WiringError("NetnsGone", `${path} is no network namespace; is the pod gone?`);
    return netns;
  }

  find(path: string): Netns | undefined {
    return this.#namespaces.get(path);
  }

  addLink(plan: WiringPlan): FakeLink {
    const netns = this.netns(plan.netns);
    const stale = this.#links.get(plan.hostIface);
    const isOldPair = stale !== undefined && netns.ifaces.get(plan.contIface) === stale;
    if (netns.ifaces.has(plan.contIface) && !isOldPair) {
      throw new WiringError("IfaceExists", `Interface ${plan.contIface} already exists in ${plan.netns}`);
    }
    if (stale !== undefined) this.deleteLink(stale);
    const link: FakeLink = {
      hostIface: plan.hostIface,
      hostIfIndex: this.#nextIfIndex++,
      contIface: plan.contIface,
      netns: { dev: netns.dev, inode: netns.inode },
      ips: plan.ips,
    };
    this.#links.set(link.hostIface, link);
    netns.ifaces.set(link.contIface, link);
    return link;
  }

  deleteLink(link: FakeLink): void {
    this.#links.delete(link.hostIface);
    for (const { ifaces } of this.#namespaces.values()) {
      if (ifaces.get(link.contIface) === link) ifaces.delete(link.contIface);
    }
  }
}

/** PodWiring over the kernel in memory. Held to the same contract as the real one, `wiring.contract.ts`. */
export class FakeWiring implements PodWiring {
  readonly kernel: FakeKernel;

  constructor(kernel: FakeKernel = new FakeKernel()) {
    this.kernel = kernel;
  }

  async identifyNetns(path: string): Promise<NetnsIdentity> {
    const { dev, inode } = this.kernel.netns(path);
    return { dev, inode };
  }

  async wire(plan: WiringPlan): Promise<WiredPod> {
    const { hostIfIndex } = this.kernel.addLink(plan);
    const contMAC = plan.contMAC ?? parseMAC(`02:00:00:00:00:${(hostIfIndex % 256).toString(16).padStart(2, "0")}`);
    return { hostIfIndex, contMAC, mtuBytes: plan.mtuBytes || 1500 };
  }

  async unwire(link: { readonly hostIface: string; readonly hostIfIndex: number }): Promise<boolean> {
    const found = this.kernel.linkOf(link.hostIface);
    if (found?.hostIfIndex !== link.hostIfIndex) return false;
    this.kernel.deleteLink(found);
    return true;
  }

  async unwireFromNetns(pod: Parameters<PodWiring["unwireFromNetns"]>[0]): Promise<boolean> {
    const netns = this.kernel.find(pod.netns);
    if (netns?.inode !== pod.identity.inode || netns.dev !== pod.identity.dev) return false;
    const link = netns.ifaces.get(pod.contIface);
    if (link?.hostIface !== pod.hostIface) return false;
    this.kernel.deleteLink(link);
    return true;
  }
}

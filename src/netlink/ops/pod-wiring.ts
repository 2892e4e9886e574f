// SPDX-License-Identifier: Apache-2.0
import { constants } from "node:os";
import type { NetnsIdentity, PodWiring, WiredPod, WiringFacts, WiringPlan, WiringQuery } from "../../cni/ports.ts";
import { describeError } from "../../lib/errors.ts";
import { formatIP } from "../../net/ip.ts";
import { Conn } from "../conn.ts";
import { WiringError } from "../errors.ts";
import { identifyNetns, type OpenNetns, openNetns, ownNetnsIdentity, sameNetns, withNetns } from "../netns.ts";
import { hasIPv6, writeSysctl } from "../sysctl.ts";
import { IF_OPER_UP } from "../wire/constants.ts";
import type { LinkMessage } from "../wire/link.ts";
import { inspectWiring } from "./inspect.ts";
import { deleteLink, findLink, isNoSuchLink, linkOf } from "./link.ts";
import { waitUntilReady } from "./link-ready.ts";
import { LinkReaper } from "./link-reaper.ts";
import { HOST_LINK_LOCAL, hostRequests, hostSysctls, pairRequests, podRequests, podSysctls } from "./pod-requests.ts";

/**
 * Wires pods from the calling thread's namespace, which is the host's.
 *
 * Each call blocks the thread: about two milliseconds to wire, twenty or more to unwire. The methods are asynchronous
 * because the port is; the work is done when they return.
 */
export class KernelPodWiring implements PodWiring {
  readonly #conn: Conn;
  readonly #home = ownNetnsIdentity();
  readonly #reaper: LinkReaper;

  constructor(conn: Conn) {
    this.#conn = conn;
    this.#reaper = new LinkReaper(conn);
  }

  async identifyNetns(path: string): Promise<NetnsIdentity> {
    return identifyNetns(path);
  }

  async wire(plan: WiringPlan): Promise<WiredPod> {
    using netns = openNetns(plan.netns);
    // A mistake here would set the host's own ip_forward and routes.
    if (sameNetns(netns.identity, this.#home)) {
      throw new WiringError("NetnsGone", `${plan.netns} is the host's own network namespace, not a pod's`);
    }
    let hostLink: LinkMessage | undefined;
    try {
      hostLink = this.#makePair(plan, netns);
      return this.#configure(plan, netns, hostLink);
    } catch (cause) {
      const left = hostLink === undefined ? undefined : this.#undo(hostLink);
      if (cause instanceof WiringError && left === undefined) throw cause;
      const ips = plan.ips.map(formatIP).join(", ");
      const where = `${plan.contIface} (${ips}) in ${plan.netns} to ${plan.hostIface}`;
      const rest = left === undefined ? "" : `; ${plan.hostIface} is left behind: ${left.message}`;
      throw new WiringError("Kernel", `Cannot wire ${where}: ${describeError(cause)}${rest}`, { cause });
    }
  }

  unwire(link: { readonly hostIface: string; readonly hostIfIndex: number }): Promise<boolean> {
    return this.#reaper.delete({ name: link.hostIface, index: link.hostIfIndex });
  }

  async unwireFromNetns(pod: Parameters<PodWiring["unwireFromNetns"]>[0]): Promise<boolean> {
    const hostIndex = this.#findHostEnd(pod);
    return hostIndex === undefined ? false : this.#reaper.delete({ name: pod.hostIface, index: hostIndex });
  }

  async inspect(query: WiringQuery): Promise<WiringFacts> {
    return inspectWiring(this.#conn, query);
  }

  /** Deletes a stale host link of that name first, when that is what stands in the way. */
  #makePair(plan: WiringPlan, netns: OpenNetns): LinkMessage {
    const requests = pairRequests(plan, netns.fd);
    let [made, found] = this.#conn.executeBatch(requests);
    if (made?.error?.errno === constants.errno.EEXIST) {
      this.#clearWay(plan, netns);
      [made, found] = this.#conn.executeBatch(requests);
    }
    if (made?.error !== undefined) throw made.error;
    const link = linkOf(found?.replies);
    if (link !== undefined) return link;
    // Someone deleted or renamed it in this very moment; by that name there is nothing to undo.
    throw found?.error ?? new WiringError("Kernel", `${plan.hostIface} vanished while it was being made`);
  }

  /**
   * After EEXIST, which does not say which end: the host's name may be held by what a dead attachment left, and the
   * pod's by its other end or by something that is not ours. The host is touched only when that helps.
   */
  #clearWay(plan: WiringPlan, netns: OpenNetns): void {
    const stale = findLink(this.#conn, { name: plan.hostIface });
    const inPod = findIn(netns, plan.contIface);
    const isOldPair = stale !== undefined && inPod !== undefined && isPair(stale, inPod);
    if (inPod !== undefined && !isOldPair) {
      throw new WiringError(
        "IfaceExists",
        `Interface ${plan.contIface} already exists in ${plan.netns} and is not the other end of ${plan.hostIface}; ` +
          "delete it or choose another CNI_IFNAME",
      );
    }
    if (stale === undefined) return;
    if (stale.info?.kind !== "veth") {
      throw new WiringError("Kernel", `${plan.hostIface} exists and is no veth; delete it by hand`);
    }
    this.#conn.execute(deleteLink({ index: stale.index }));
  }

  #configure(plan: WiringPlan, netns: OpenNetns, hostLink: LinkMessage): WiredPod {
    // The kernel names a veth's other end by its index in the other namespace, so the pod needs no question.
    const contIndex = hostLink.link;
    if (contIndex === undefined) throw new WiringError("Kernel", `${plan.hostIface} does not tell its other end`);
    for (const [path, value] of hostSysctls(plan, hasIPv6())) writeSysctl(path, value);
    this.#conn.executeAll(hostRequests(plan, hostLink.index));
    using podConn = withNetns(netns, () => {
      for (const [path, value] of podSysctls(plan)) writeSysctl(path, value);
      return Conn.open();
    });
    const contLink = linkOf(podConn.executeAll(podRequests(plan, contIndex)).at(-1)?.replies);
    if (contLink?.address === undefined) throw new WiringError("Kernel", `${plan.contIface} has no Ethernet address`);
    const v6 = plan.ips.filter((ip) => typeof ip === "bigint");
    waitUntilReady(this.#conn, hostLink.index, v6.length > 0 ? [HOST_LINK_LOCAL] : []);
    // Mostly it was up when the last of the requests looked.
    if (contLink.operState !== IF_OPER_UP || v6.length > 0) waitUntilReady(podConn, contIndex, v6);
    return { hostIfIndex: hostLink.index, contMAC: contLink.address, mtuBytes: contLink.mtu ?? plan.mtuBytes };
  }

  /** Deletes the pair, and with it addresses and routes of both sides. Returns why it could not. */
  #undo(hostLink: LinkMessage): Error | undefined {
    const error = this.#conn.executeBatch([deleteLink({ index: hostLink.index })])[0]?.error;
    return isNoSuchLink(error) ? undefined : error;
  }

  #findHostEnd(pod: Parameters<PodWiring["unwireFromNetns"]>[0]): number | undefined {
    let netns: OpenNetns;
    try {
      netns = openNetns(pod.netns);
    } catch (error) {
      if (error instanceof WiringError && error.code === "NetnsGone") return undefined;
      throw error;
    }
    using _ = netns;
    // Namespace files are reused: another pod may stand at this path by now.
    if (!sameNetns(netns.identity, pod.identity)) return undefined;
    const contLink = findIn(netns, pod.contIface);
    if (contLink?.link === undefined) return undefined;
    const hostLink = findLink(this.#conn, { index: contLink.link });
    if (hostLink === undefined || hostLink.name !== pod.hostIface || !isPair(hostLink, contLink)) return undefined;
    return hostLink.index;
  }
}

function findIn(netns: OpenNetns, name: string): LinkMessage | undefined {
  using conn = withNetns(netns, () => Conn.open());
  return findLink(conn, { name });
}

/** Each end of a veth pair names the other by index. */
function isPair(hostLink: LinkMessage, contLink: LinkMessage): boolean {
  return hostLink.link === contLink.index && contLink.link === hostLink.index && contLink.info?.kind === "veth";
}

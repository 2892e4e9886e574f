// SPDX-License-Identifier: Apache-2.0
import { INTERFACE_ATTRIBUTE } from "../ipam/gc/addresses.ts";
import type { Allocation, AssignRequest } from "../ipam/types.ts";
import { type CIDR, cidrFamily, formatCIDR, parseCIDR } from "../net/cidr.ts";
import { type Family, familyOf, type IP } from "../net/ip.ts";
import type { Delegation } from "./delegation/types.ts";
import { CNIError } from "./errors.ts";
import type { PodWishes } from "./fixed/annotations.ts";
import type { NetConf } from "./input/netconf.ts";
import type { WiredPod, WiringPlan } from "./ports.ts";
import type { AddResult, DNS, PodRef } from "./types.ts";

/** The host's end of every pod, and so the next hop's address on the link layer. Source: calico-interop 3.8. */
export const HOST_MAC = "ee:ee:ee:ee:ee:ee";
/** Next hop inside pods. The IPv6 one is the link-local address that follows from HOST_MAC (RFC 4291, appendix A). */
export const GATEWAY = { 4: "169.254.1.1", 6: "fe80::ecee:eeff:feee:eeee" } as const;
/** Source: RFC 8200, section 5. */
const MIN_MTU_IPV6 = 1280;
const DEFAULT_ROUTE = { 4: parseCIDR("0.0.0.0/0"), 6: parseCIDR("::/0") } as const;

/** Everything about an attachment that is known before addresses are. */
export interface AttachmentPlan {
  readonly handleID: string;
  readonly hostIface: string;
  readonly contIface: string;
  readonly netns: string;
  readonly nodeName: string;
  readonly pod?: PodRef;
  readonly conf: NetConf;
  /** The address that CNI_ARGS ask for. */
  readonly asked?: IP;
  /** Another IPAM plugin, to be asked in place of our own. */
  readonly delegation?: Delegation;
  /** Used when the configuration names none. Units: bytes; 0 leaves the kernel's default. */
  readonly podMTUBytes: number;
}

/** Whether it is the interface that Kubernetes takes for the pod, and whose addresses its status shows. */
export function isPrimary({ contIface }: Pick<AttachmentPlan, "contIface">): boolean {
  return contIface === "eth0";
}

/** What to ask IPAM for. */
export function planAssign(
  plan: AttachmentPlan,
  need: Pick<AssignRequest, "families" | "addresses" | "pools">,
  nowNs: bigint,
): AssignRequest {
  const { pod, handleID } = plan;
  const { families, addresses = [], pools } = need;
  return {
    handleID,
    attributes: { ...ownerAttributes(plan), timestamp: formatGoUTC(nowNs) },
    families,
    ...(addresses.length > 0 && { addresses }),
    ...(pools && { pools }),
    ...(pod && { namespace: pod.namespace }),
  };
}

/**
 * Whose address it is. Calico's collector frees the address of a `namespace` and `pod` whose status does not show it, and
 * the status shows eth0 alone: so only that carries them under these names.
 */
export function ownerAttributes(
  plan: Pick<AttachmentPlan, "pod" | "nodeName" | "contIface">,
): Readonly<Record<string, string>> {
  const { pod, nodeName, contIface } = plan;
  if (pod !== undefined && isPrimary(plan)) return { namespace: pod.namespace, node: nodeName, pod: pod.name };
  return {
    node: nodeName,
    [INTERFACE_ATTRIBUTE]: contIface,
    ...(pod && { "gingham-namespace": pod.namespace, "gingham-pod": pod.name }),
  };
}

/**
 * What to make in the kernel. The pod's annotation decides on the MAC before the runtime does, as it does on addresses.
 *
 * @throws CNIError when the MTU is too small for IPv6
 */
export function planWiring(
  plan: AttachmentPlan,
  given: readonly Pick<Allocation, "ip">[],
  { mac = plan.conf.mac, routes = [] }: Pick<PodWishes, "mac"> & { readonly routes?: readonly CIDR[] } = {},
): WiringPlan {
  const { conf, netns, contIface, hostIface } = plan;
  const ips = given.map(({ ip }) => ip);
  const routesOf = (family: Family): readonly CIDR[] => {
    const ofFamily = routes.filter((route) => cidrFamily(route) === family);
    if (ofFamily.length > 0 && (!conf.includeDefaultRoutes || ofFamily.some(isDefault))) return ofFamily;
    return [...ofFamily, DEFAULT_ROUTE[family]];
  };
  return {
    netns,
    contIface,
    hostIface,
    ips,
    mtuBytes: mtuOf(plan, ips),
    ...(mac !== undefined && { contMAC: mac }),
    ...(conf.queues > 0 && { queues: conf.queues }),
    routes: familiesOf(ips).flatMap(routesOf),
    allowIPForwarding: conf.allowIPForwarding,
  };
}

/** @throws CNIError when it is too small for a family: the kernel would have no IPv6 on the link, and say so by a missing file */
function mtuOf({ conf, podMTUBytes }: AttachmentPlan, ips: readonly IP[]): number {
  const mtuBytes = conf.mtuBytes === 0 ? podMTUBytes : conf.mtuBytes;
  if (mtuBytes === 0 || mtuBytes >= MIN_MTU_IPV6 || !ips.some((ip) => familyOf(ip) === 6)) return mtuBytes;
  const whose =
    conf.mtuBytes === 0
      ? "which links between nodes leave for pods; give these links a larger MTU, or set the right one (see gingham node status)"
      : "which the network configuration sets; raise it there";
  throw new CNIError("Wiring", `An IPv6 address needs an MTU of ${MIN_MTU_IPV6}, and there is ${mtuBytes}, ${whose}`);
}

/** What to answer. */
export function planResult(plan: AttachmentPlan, wiring: WiringPlan, wired: WiredPod, ipamDNS: DNS = {}): AddResult {
  return {
    host: { name: wiring.hostIface, mac: HOST_MAC },
    container: { name: wiring.contIface, mac: wired.contMAC, mtuBytes: wired.mtuBytes, sandbox: wiring.netns },
    ips: wiring.ips,
    routes: wiring.routes.map((route) => ({ dst: formatCIDR(route), gw: GATEWAY[cidrFamily(route)] })),
    dns: { ...ipamDNS, ...plan.conf.dns },
  };
}

/**
 * Writes a moment as Go's `time.Now().UTC().String()` does, which is what Calico puts into `timestamp`:
 * `2026-08-22 10:00:00.123 +0000 UTC`, the fraction without trailing zeros.
 */
export function formatGoUTC(unixNs: bigint): string {
  const seconds = new Date(Number(unixNs / 1_000_000_000n) * 1000).toISOString().slice(0, 19).replace("T", " ");
  const fraction = (unixNs % 1_000_000_000n).toString().padStart(9, "0").replace(/0+$/, "");
  return `${seconds}${fraction === "" ? "" : `.${fraction}`} +0000 UTC`;
}

function isDefault({ prefixLength }: CIDR): boolean {
  return prefixLength === 0;
}

function familiesOf(ips: readonly IP[]): readonly Family[] {
  return [...new Set(ips.map(familyOf))];
}

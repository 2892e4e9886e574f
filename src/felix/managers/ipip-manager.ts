// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrContains } from "../../net/cidr.ts";
import { bitsOf, familyOf, type IP } from "../../net/ip.ts";
import type { IPIPEnd } from "../calc/state.ts";
import { IPIP_DEVICE } from "../ownership.ts";
import type { DeviceChange, KernelAddr, KernelLink } from "../ports.ts";

/** What a turn knows of IP-in-IP. */
export interface IPIPNeed {
  /** Undefined: nothing is in IP-in-IP. */
  readonly end: IPIPEnd | undefined;
  readonly mtuBytes: number;
  /** Addresses in these are tunnel addresses. */
  readonly poolCIDRs: readonly CIDR[];
}

/** The device as the kernel has it. */
export interface IPIPDeviceState {
  readonly ifIndex: number;
  readonly up: boolean;
  readonly mtuBytes: number;
  /** Addresses that are ours, see `ownership.ts`. */
  readonly ownIPs: readonly IP[];
  readonly hasOthers: boolean;
}

/**
 * Reads the device; undefined where there is none, `taken` where a link of its name is something else.
 *
 * @param known addresses that this process has put there
 */
export function readIPIPDevice(
  links: Iterable<KernelLink>,
  addrs: readonly KernelAddr[],
  { poolCIDRs, known }: { readonly poolCIDRs: readonly CIDR[]; readonly known: ReadonlySet<IP> },
): IPIPDeviceState | "taken" | undefined {
  const link = [...links].find(({ name }) => name === IPIP_DEVICE);
  if (link === undefined) return undefined;
  if (link.ipip === undefined || link.ipip.remoteIP !== undefined) return "taken";
  const { ifIndex, up, mtuBytes } = link;
  const hosts = addrs.filter((addr) => addr.ifIndex === ifIndex && familyOf(addr.ip) === 4);
  const isOwn = ({ ip, prefixLength }: KernelAddr): boolean =>
    prefixLength === bitsOf(4) && (known.has(ip) || poolCIDRs.some((cidr) => cidrContains(cidr, ip)));
  const ownIPs = hosts.filter(isOwn).map(({ ip }) => ip);
  return { ifIndex, up, mtuBytes, ownIPs, hasOthers: ownIPs.length < hosts.length };
}

/**
 * The steps to the device that is needed: the address before the device is up, so that no packet leaves it with another
 * source; the new one before old ones go. While this node has no tunnel address, those that are there stay: routes do not
 * depend on it.
 *
 * Source: calico-interop 4.4.
 */
export function stepsToIPIP(need: IPIPNeed, actual: IPIPDeviceState | undefined): readonly DeviceChange[] {
  const { end, mtuBytes } = need;
  if (end === undefined) return [];
  // Read back, it gets all else.
  if (actual === undefined) return [{ kind: "createIPIP", name: IPIP_DEVICE }];
  const { ifIndex, ownIPs } = actual;
  const { tunnelIP } = end;
  const isMissing = tunnelIP !== undefined && !ownIPs.includes(tunnelIP);
  const surplus = tunnelIP === undefined ? [] : ownIPs.filter((ip) => ip !== tunnelIP);
  const isSet = actual.up && actual.mtuBytes === mtuBytes;
  return [
    ...(isMissing ? [addrChange("addAddr", ifIndex, tunnelIP)] : []),
    ...(isSet ? [] : [{ kind: "set", ifIndex, mtuBytes } as const]),
    ...surplus.map((ip) => addrChange("deleteAddr", ifIndex, ip)),
  ];
}

/**
 * The steps that take away what is ours, once no route needs it. Down it takes no packets out of tunnels, which nobody would
 * guard any more; with somebody else's addresses on it, it is somebody else's to put down.
 */
export function stepsFromIPIP({ ifIndex, ownIPs, up, hasOthers }: IPIPDeviceState): readonly DeviceChange[] {
  if (ownIPs.length === 0) return [];
  return [
    ...(up && !hasOthers ? [{ kind: "down", ifIndex } as const] : []),
    ...ownIPs.map((ip) => addrChange("deleteAddr", ifIndex, ip)),
  ];
}

function addrChange(kind: "addAddr" | "deleteAddr", ifIndex: number, ip: IP): DeviceChange {
  return { kind, ifIndex, ip, prefixLength: bitsOf(4) };
}

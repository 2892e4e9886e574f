// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrContains, parseCIDR } from "../../net/cidr.ts";
import { bitsOf, type Family, formatIP, type IP } from "../../net/ip.ts";
import type { VTEP, VXLANNetwork } from "../calc/vxlan.ts";
import { VXLAN_DEVICES } from "../ownership.ts";
import type { DeviceChange, KernelAddr, KernelLink, TunnelEntry, VXLANDevice } from "../ports.ts";

/** Names and meanings are those of Calico's FelixConfiguration. */
export interface VXLANSettings {
  readonly vni: number;
  readonly port: number;
}

/** Calico's defaults. Source: calico-interop 4.4. */
export const VXLAN_DEFAULTS: VXLANSettings = { vni: 4096, port: 4789 };

/** The kernel gives every device one of these by itself. */
const LINK_LOCAL_V6: CIDR = parseCIDR("fe80::/10");
/** Stands for an address that the device lacks: no node has it. */
const NO_IP = 0 as IP;

/** A VXLAN device with what it carries, as it should be or as the kernel has it. */
export interface DeviceState extends VXLANDevice {
  readonly up: boolean;
  /** Of global scope. */
  readonly addrs: readonly Pick<KernelAddr, "ip" | "prefixLength">[];
}

/** A device that is there. */
export type ActualDevice = DeviceState & { readonly ifIndex: number };

/** What should be of one family's device: this; nothing; or, with the reason, whatever is there stays. */
export type DeviceWish =
  | { readonly kind: "want"; readonly device: DeviceState }
  | { readonly kind: "drop" }
  | { readonly kind: "hold"; readonly reason: string };

/** Says a network in the kernel's terms. */
export function wishForDevice(
  family: Family,
  network: VXLANNetwork | undefined,
  around: {
    readonly settings: VXLANSettings;
    readonly mtuBytes: number;
    /** The link that carries this node's address. */
    readonly parent: { readonly ifIndex: number } | undefined;
  },
): DeviceWish {
  if (network === undefined) return { kind: "drop" };
  const { local } = network;
  const { settings, mtuBytes, parent } = around;
  if (local === undefined) return { kind: "hold", reason: `this node has no IPv${family} tunnel address yet` };
  if (parent === undefined)
    return { kind: "hold", reason: `no link that is up carries this node's address ${formatIP(local.nodeIP)}` };
  const device: DeviceState = {
    name: VXLAN_DEVICES[family],
    vni: settings.vni,
    port: settings.port,
    localIP: local.nodeIP,
    parentIfIndex: parent.ifIndex,
    learning: false,
    mac: local.mac,
    mtuBytes,
    up: true,
    addrs: [{ ip: local.tunnelIP, prefixLength: bitsOf(family) }],
  };
  return { kind: "want", device };
}

/** Reads the devices of our names; a link of such a name that is no VXLAN device is somebody else's, and is named. */
export function readDevices(
  links: Iterable<KernelLink>,
  addrs: readonly KernelAddr[],
): {
  readonly devices: ReadonlyMap<string, DeviceState & { readonly ifIndex: number }>;
  readonly taken: readonly string[];
} {
  const names: readonly string[] = Object.values(VXLAN_DEVICES);
  const devices = new Map<string, ActualDevice>();
  const taken: string[] = [];
  for (const { ifIndex, name, up, mtuBytes, mac, vxlan } of links) {
    if (!names.includes(name)) continue;
    if (vxlan === undefined || mac === undefined) {
      taken.push(name);
      continue;
    }
    const { vni, port, localIP = NO_IP, parentIfIndex = 0, learning } = vxlan;
    const own = addrs.filter((addr) => addr.ifIndex === ifIndex && !cidrContains(LINK_LOCAL_V6, addr.ip));
    devices.set(name, { ifIndex, name, up, mtuBytes, mac, vni, port, localIP, parentIfIndex, learning, addrs: own });
  }
  return { devices, taken };
}

export function sameDevice(a: DeviceState, b: DeviceState): boolean {
  const texts = ({ addrs }: DeviceState): string => addrs.map(addrText).toSorted().join();
  return isSameKind(a, b) && a.up === b.up && a.mac === b.mac && a.mtuBytes === b.mtuBytes && texts(a) === texts(b);
}

/**
 * The steps from what is there to what should be. A device of other immutable properties is made anew, and gets its
 * address when it is listed again. The tunnel address is its only one: the new one comes before old ones go.
 *
 * Source: calico-interop 4.4.
 */
export function stepsTo(desired: DeviceState, actual: ActualDevice | undefined): readonly DeviceChange[] {
  const { up: _up, addrs: _addrs, ...device } = desired;
  if (actual === undefined) return [{ kind: "create", device }];
  const { ifIndex } = actual;
  if (!isSameKind(desired, actual)) {
    return [
      { kind: "delete", ifIndex },
      { kind: "create", device },
    ];
  }
  const { mtuBytes, mac } = desired;
  const isSet = actual.up && actual.mtuBytes === mtuBytes && actual.mac === mac;
  return [
    ...addrsBeyond(desired, actual).map((addr) => ({ kind: "addAddr", ifIndex, ...addr }) as const),
    // A MAC that is set, be it the one that is there, takes the neighbours along.
    ...(isSet ? [] : [{ kind: "set", ifIndex, mtuBytes, ...(actual.mac !== mac && { mac }) } as const]),
    ...addrsBeyond(actual, desired).map((addr) => ({ kind: "deleteAddr", ifIndex, ...addr }) as const),
  ];
}

/** A neighbour and a forwarding entry for each peer, by identity. */
export function entriesFor(peers: readonly VTEP[], ifIndex: number): ReadonlyMap<string, TunnelEntry> {
  const entries = new Map<string, TunnelEntry>();
  for (const { tunnelIP, nodeIP, mac } of peers) {
    for (const entry of [
      { kind: "neigh", ifIndex, ip: tunnelIP, mac },
      { kind: "fdb", ifIndex, mac, remote: nodeIP },
    ] as const) {
      entries.set(entryKey(entry), entry);
    }
  }
  return entries;
}

/** Neighbours are told apart by address; one MAC may have several remotes. */
export function entryKey(entry: TunnelEntry): string {
  return entry.kind === "neigh" ? `neigh ${formatIP(entry.ip)}` : `fdb ${entry.mac} ${formatIP(entry.remote)}`;
}

export function sameEntry(a: TunnelEntry, b: TunnelEntry): boolean {
  return a.kind === b.kind && a.mac === b.mac;
}

/** As `ip neigh` and `bridge fdb` would say it, for logs. */
export function formatEntry(entry: TunnelEntry): string {
  return entry.kind === "neigh"
    ? `neighbour ${formatIP(entry.ip)} lladdr ${entry.mac}`
    : `fdb ${entry.mac} dst ${formatIP(entry.remote)}`;
}

function isSameKind(a: VXLANDevice, b: VXLANDevice): boolean {
  return (
    a.vni === b.vni &&
    a.port === b.port &&
    a.localIP === b.localIP &&
    a.parentIfIndex === b.parentIfIndex &&
    a.learning === b.learning
  );
}

/** Addresses of one that the other lacks. */
function addrsBeyond(one: DeviceState, other: DeviceState): readonly Pick<KernelAddr, "ip" | "prefixLength">[] {
  const texts = new Set(other.addrs.map(addrText));
  return one.addrs.filter((addr) => !texts.has(addrText(addr))).map(({ ip, prefixLength }) => ({ ip, prefixLength }));
}

function addrText({ ip, prefixLength }: Pick<KernelAddr, "ip" | "prefixLength">): string {
  return `${formatIP(ip)}/${prefixLength}`;
}

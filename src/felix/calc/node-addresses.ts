// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import { parseIPWithPrefix } from "../../net/cidr.ts";
import { type Family, familyOf, type IP, parseIP } from "../../net/ip.ts";
import { ipipAddressOf, sameTunnelEnd, type TunnelEnd, tunnelEndOf } from "./vtep.ts";

/**
 * The address by which other nodes reach a node.
 *
 * Source: calico-interop 4.6 (annotations) and 4.7 (detection).
 */
export interface NodeAddress {
  readonly ip: IP;
  /** Length of the subnet, where the source says it. */
  readonly prefixLength?: number;
  readonly method: AddressMethod;
}

export interface NodeAddresses {
  readonly name: string;
  readonly ipv4?: NodeAddress;
  readonly ipv6?: NodeAddress;
  /** Of its VXLAN tunnels, by family of the pods. */
  readonly tunnelEnds: Partial<Readonly<Record<Family, TunnelEnd>>>;
  /** Of its IP-in-IP device. */
  readonly ipipTunnelIP?: IP;
  /** Texts that should have been addresses, `TYPE VALUE`. */
  readonly malformed: readonly string[];
}

/** What the Node object itself may say. */
export type ObjectMethod = "annotation" | "kubernetes-internal-ip";

/** Names as in Calico's IP_AUTODETECTION_METHOD, `annotation`, and `explicit` for what somebody has set. */
export type AddressMethod =
  | ObjectMethod
  | "explicit"
  | "first-found"
  | "can-reach"
  | "interface"
  | "skip-interface"
  | "cidr";

/** `none`: the node shall have none; `unknown`: it shall, and which is not known. */
export type DetectedAddress = NodeAddress | "none" | "unknown";

/** What this machine knows of its addresses; a family that is absent is as the Node object says. */
export type DetectedAddresses = Partial<Readonly<Record<Family, DetectedAddress>>>;

type Detect = (node: Node, family: Family, malformed: string[]) => Omit<NodeAddress, "method"> | undefined;

/** Calico's annotation of a node's address, `address/length`. */
export const ADDRESS_ANNOTATIONS: Readonly<Record<Family, string>> = {
  4: "projectcalico.org/IPv4Address",
  6: "projectcalico.org/IPv6Address",
};

/** Ways to find a node's address in its object. Those that look at this machine's links are in `node-address/detect.ts`. */
const ADDRESS_METHODS: Readonly<Record<ObjectMethod, Detect>> = {
  annotation: (node, family, malformed) => {
    const text = node.metadata.annotations?.[ADDRESS_ANNOTATIONS[family]];
    if (text === undefined || text === "") return undefined;
    const parsed = attempt(() => (text.includes("/") ? parseIPWithPrefix(text) : { ip: parseIP(text) }));
    if (parsed !== undefined && familyOf(parsed.ip) === family) return parsed;
    malformed.push(`${ADDRESS_ANNOTATIONS[family]} ${text}`);
    return undefined;
  },
  "kubernetes-internal-ip": (node, family, malformed) => {
    for (const { type, address } of node.status?.addresses ?? []) {
      if (type !== "InternalIP") continue;
      const ip = attempt(() => parseIP(address));
      if (ip !== undefined && familyOf(ip) === family) return { ip };
      if (ip === undefined) malformed.push(`InternalIP ${address}`);
    }
    return undefined;
  },
};

/**
 * For another node: what it says itself wins, since a Calico node of a mixed cluster may have chosen another address
 * than its InternalIP, and only it knows its subnet's length.
 */
export const REMOTE_METHODS: readonly ObjectMethod[] = ["annotation", "kubernetes-internal-ip"];

/**
 * For this node, unless its addresses are detected: the annotation is our own output (or left over from before), so a changed InternalIP must win over it.
 */
export const LOCAL_METHODS: readonly ObjectMethod[] = ["kubernetes-internal-ip", "annotation"];

/** Finds a node's address of each family by the first method that knows one. What is detected is not looked for. */
export function resolveNodeAddresses(
  node: Node,
  methods: readonly ObjectMethod[],
  detected: DetectedAddresses = {},
): NodeAddresses {
  const malformed: string[] = [];
  const find = (family: Family): NodeAddress | undefined => {
    const known = detected[family];
    if (known !== undefined) return typeof known === "object" ? known : undefined;
    for (const method of methods) {
      const found = ADDRESS_METHODS[method](node, family, malformed);
      if (found !== undefined) return { ...found, method };
    }
    return undefined;
  };
  const ipv4 = find(4);
  const ipv6 = find(6);
  const [end4, end6] = [tunnelEndOf(node, 4, malformed), tunnelEndOf(node, 6, malformed)];
  const ipipTunnelIP = ipipAddressOf(node, malformed);
  return {
    name: node.metadata.name,
    ...(ipipTunnelIP !== undefined && { ipipTunnelIP }),
    tunnelEnds: { ...(end4 && { 4: end4 }), ...(end6 && { 6: end6 }) },
    ...(ipv4 === undefined ? {} : { ipv4 }),
    ...(ipv6 === undefined ? {} : { ipv6 }),
    malformed: [...new Set(malformed)],
  };
}

export function addressOf(addresses: NodeAddresses, family: Family): NodeAddress | undefined {
  return family === 4 ? addresses.ipv4 : addresses.ipv6;
}

/** All addresses that a node is known by: its own, and those of its ends of tunnels. */
export function ownAddressesOf(node: NodeAddresses | undefined): readonly IP[] {
  if (node === undefined) return [];
  const { ipv4, ipv6, tunnelEnds, ipipTunnelIP } = node;
  return [ipv4?.ip, ipv6?.ip, tunnelEnds[4]?.ip, tunnelEnds[6]?.ip, ipipTunnelIP].filter((ip) => ip !== undefined);
}

/** True when routes that depend on the node need no new look: kubelets update their Node every few seconds. */
export function sameAddresses(a: NodeAddresses | undefined, b: NodeAddresses | undefined): boolean {
  return (
    (a === undefined) === (b === undefined) &&
    a?.ipv4?.ip === b?.ipv4?.ip &&
    a?.ipv6?.ip === b?.ipv6?.ip &&
    a?.ipv4?.prefixLength === b?.ipv4?.prefixLength &&
    a?.ipv6?.prefixLength === b?.ipv6?.prefixLength &&
    sameTunnelEnd(a?.tunnelEnds[4], b?.tunnelEnds[4]) &&
    sameTunnelEnd(a?.tunnelEnds[6], b?.tunnelEnds[6]) &&
    a?.ipipTunnelIP === b?.ipipTunnelIP &&
    a?.malformed.join() === b?.malformed.join()
  );
}

function attempt<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}

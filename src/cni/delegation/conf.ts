// SPDX-License-Identifier: Apache-2.0
import { parseJSON, stringifyJSON } from "../../lib/json.ts";
import { cidrFamily, parseCIDR } from "../../net/cidr.ts";
import type { Family } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";
import { otherIPAM } from "../input/netconf.ts";
import type { Env } from "../input/protocol.ts";
import type { Delegation } from "./types.ts";

/** Texts in the place of host-local's subnets which stand for the node's own. Source: calico-interop 3.9. */
const POD_CIDR: Readonly<Record<string, Family>> = { usepodcidr: 4, usepodcidripv6: 6 };
/** A release looks for no address, but host-local wants to read a network. Source: calico-interop 3.9. */
const ANY: Readonly<Record<Family, string>> = { 4: "0.0.0.0/0", 6: "::/0" };
const PASSED_ON = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"] as const;

type Raw = Readonly<Record<string, unknown>>;

/** The delegation that a call asks for; undefined when IPAM is our own. @param raw what `stdin` holds */
export function delegationIn(raw: Raw, env: Env, stdin: string): Delegation | undefined {
  const type = otherIPAM(raw);
  if (type === undefined) return undefined;
  const passed = PASSED_ON.flatMap((name) => (env[name] ? [[name, env[name]] as const] : []));
  return { type, env: Object.fromEntries(passed), conf: stdin };
}

/** Whether the configuration asks for the networks of the node. */
export function wantsPodCIDRs({ conf }: Delegation): boolean {
  let found = false;
  replaceSubnets(conf, () => {
    found = true;
    return "";
  });
  return found;
}

/**
 * Puts the node's networks where the configuration asks for them. Source: calico-interop 3.9.
 *
 * @param podCIDRs `spec.podCIDRs` of the Node; undefined: for a release, which needs none
 * @throws CNIError `Delegate` when the node has none of the family
 */
export function withPodCIDRs(
  delegation: Delegation,
  nodeName: string,
  podCIDRs: readonly string[] | undefined,
): Delegation {
  const conf = replaceSubnets(delegation.conf, (family) => {
    if (podCIDRs === undefined) return ANY[family];
    const cidr = podCIDRs.find((text) => cidrFamily(parseCIDR(text)) === family);
    if (cidr !== undefined) return cidr;
    const key = family === 4 ? "usePodCidr" : "usePodCidrIPv6";
    const what = `ipam asks for ${key}, but Node ${nodeName} has no IPv${family} network in spec.podCIDRs`;
    const step = "start kube-controller-manager with --allocate-node-cidrs, or write the subnet";
    throw new CNIError("Delegate", `${what}; ${step}`);
  });
  return { ...delegation, conf };
}

/** The configuration with each subnet that stands for a network of the node replaced; the same text when there is none. */
function replaceSubnets(conf: string, replacement: (family: Family) => string): string {
  const raw = parseJSON(conf) as Raw; // decoded before, as an object
  const { ipam } = raw;
  if (!isRaw(ipam)) return conf;
  let isChanged = false;
  const subnet = (value: unknown): unknown => {
    const family = typeof value === "string" ? POD_CIDR[value.toLowerCase()] : undefined;
    if (family === undefined) return value;
    isChanged = true;
    return replacement(family);
  };
  const range = (value: unknown): unknown =>
    isRaw(value) && "subnet" in value ? { ...value, subnet: subnet(value["subnet"]) } : value;
  const { subnet: own, ranges } = ipam;
  const replaced = {
    ...ipam,
    ...(own !== undefined && { subnet: subnet(own) }),
    ...(Array.isArray(ranges) && {
      ranges: ranges.map((set: unknown) => (Array.isArray(set) ? set.map(range) : set)),
    }),
  };
  return isChanged ? stringifyJSON({ ...raw, ipam: replaced }) : conf;
}

function isRaw(value: unknown): value is Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

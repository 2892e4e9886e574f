// SPDX-License-Identifier: Apache-2.0
import { cidrFamily, formatCIDR, hostCIDR, parseCIDR, parseIPWithPrefix } from "../net/cidr.ts";
import { type Family, familyOf } from "../net/ip.ts";
import { type CNIVersion, isAtLeast } from "./input/versions.ts";
import { GATEWAY, isPrimary } from "./plan.ts";
import type { AddResult, IPAMResult } from "./types.ts";

/** Index of the pod's interface in `interfaces`; the host's is 0. */
const CONTAINER_INDEX = 1;

/**
 * Writes a result in the version asked for. The primary interface names no gateway, since 169.254.1.1 is in no subnet of
 * a /32; as in Calico's. Others do: the plugin sbr makes the default route of its table from that, and from nothing else.
 *
 * Shape: 1.1.0 adds `mtu`; up to 0.4.0 each address carries its `version`; up to 0.2.0 there is one `ip4` and one `ip6`
 * and no interface. Source: CNI SPEC, "Result" of each version.
 */
export function renderResult(result: AddResult, cniVersion: CNIVersion): JSONObject {
  if (!isAtLeast(cniVersion, "0.3.0")) return renderLegacy(result, cniVersion);
  const { host, container } = result;
  const mtu = isAtLeast(cniVersion, "1.1.0") && container.mtuBytes > 0 ? { mtu: container.mtuBytes } : {};
  const withFamily = !isAtLeast(cniVersion, "1.0.0");
  return {
    cniVersion,
    interfaces: [
      { name: host.name, mac: host.mac, ...mtu },
      { name: container.name, mac: container.mac, ...mtu, sandbox: container.sandbox },
    ],
    ips: result.ips.map((ip) => ({
      ...(withFamily ? { version: String(familyOf(ip)) } : {}),
      address: formatCIDR(hostCIDR(ip)),
      interface: CONTAINER_INDEX,
      ...(isPrimary({ contIface: container.name }) ? {} : { gateway: GATEWAY[familyOf(ip)] }),
    })),
    routes: result.routes,
    dns: result.dns,
  };
}

type JSONObject = Readonly<Record<string, unknown>>;

/**
 * A result behind that of the plugins before ours, which the runtime must get as well: lists are joined, and our addresses
 * name our interfaces in the longer list. A prevResult comes in the version of the call, and there is none before 0.3.0.
 *
 * Source: CNI SPEC 1.1.0, Section 5, ADD Success.
 */
export function appendResult(prevResult: JSONObject, result: JSONObject): object {
  const before = listIn(prevResult, "interfaces");
  const ips = listIn(result, "ips") as readonly JSONObject[]; // As rendered above.
  return {
    ...prevResult,
    ...result,
    interfaces: [...before, ...listIn(result, "interfaces")],
    ips: [...listIn(prevResult, "ips"), ...ips.map((ip) => ({ ...ip, interface: before.length + CONTAINER_INDEX }))],
    routes: [...listIn(prevResult, "routes"), ...listIn(result, "routes")],
    dns: { ...(prevResult["dns"] as object | undefined), ...(result["dns"] as object) },
  };
}

function listIn(object: JSONObject, key: string): readonly unknown[] {
  const value = object[key];
  return Array.isArray(value) ? value : [];
}

/** Writes the answer of a call as IPAM alone: it tells of no interface. Source: CNI SPEC, "Result" of each version, Section 4. */
export function renderIPAMResult({ ips, routes }: IPAMResult, cniVersion: CNIVersion): object {
  const familyOfCIDR = (text: string): Family => familyOf(parseIPWithPrefix(text).ip);
  if (isAtLeast(cniVersion, "0.3.0")) {
    const withFamily = !isAtLeast(cniVersion, "1.0.0");
    const version = (address: string) => (withFamily ? { version: String(familyOfCIDR(address)) } : {});
    return { cniVersion, ips: ips.map((ip) => ({ ...version(ip.address), ...ip })), routes, dns: {} };
  }
  const ofFamily = (family: Family): object | undefined => {
    const ip = ips.find(({ address }) => familyOfCIDR(address) === family);
    if (ip === undefined) return undefined;
    const { address, ...rest } = ip;
    return { ip: address, ...rest, routes: routes.filter(({ dst }) => familyOfCIDR(dst) === family) };
  };
  const [ip4, ip6] = [ofFamily(4), ofFamily(6)];
  return { cniVersion, ...(ip4 && { ip4 }), ...(ip6 && { ip6 }), dns: {} };
}

function renderLegacy(result: AddResult, cniVersion: CNIVersion): JSONObject {
  const ofFamily = (family: Family) => {
    const ip = result.ips.find((candidate) => familyOf(candidate) === family);
    if (ip === undefined) return undefined;
    const routes = result.routes.filter((route) => cidrFamily(parseCIDR(route.dst)) === family);
    return { ip: formatCIDR(hostCIDR(ip)), routes };
  };
  const ip4 = ofFamily(4);
  const ip6 = ofFamily(6);
  return { cniVersion, ...(ip4 && { ip4 }), ...(ip6 && { ip6 }), dns: result.dns };
}

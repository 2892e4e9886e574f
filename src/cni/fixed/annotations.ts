// SPDX-License-Identifier: Apache-2.0
import { type CIDR, parseCIDR } from "../../net/cidr.ts";
import { type Family, familyOf, type IP, parseIP } from "../../net/ip.ts";
import { type MAC, macToBytes, parseMAC } from "../../net/mac.ts";
import { CNIError } from "../errors.ts";
import type { PodRef } from "../types.ts";

/** Calico's annotations on pods, and on namespaces where it reads them there. Source: calico-interop 3.7. */
export const ANNOTATIONS = {
  addresses: "cni.projectcalico.org/ipAddrs",
  addressesNoIPAM: "cni.projectcalico.org/ipAddrsNoIpam",
  families: "cni.projectcalico.org/ipFamilies",
  floatingIPs: "cni.projectcalico.org/floatingIPs",
  mac: "cni.projectcalico.org/hwAddr",
  sourcePrefixes: "cni.projectcalico.org/allowedSourcePrefixes",
} as const;

/** Who is annotated with what. */
export interface Annotated {
  /** For messages; absent for a container that is no pod. */
  readonly pod?: PodRef;
  /** Absent when there is no pod, or nobody knows it. */
  readonly podAnnotations?: Readonly<Record<string, string>>;
  readonly namespaceAnnotations?: Readonly<Record<string, string>>;
}

/** What a pod's annotations ask for, pools apart. */
export interface PodWishes {
  readonly families?: readonly Family[];
  /** At most one of each family. */
  readonly addresses?: readonly IP[];
  readonly mac?: MAC;
  /** Networks whose addresses the pod may send from besides its own. */
  readonly sourcePrefixes?: readonly CIDR[];
}

/**
 * Reads what a pod wishes. Empty text is how Calico's tools take an annotation back.
 *
 * @throws CNIError `InvalidNetworkConfig` for text that cannot be read, `NotSupportedYet`
 */
export function readWishes(annotated: Annotated): PodWishes {
  refuse(annotated, ANNOTATIONS.floatingIPs, "floating IPs are");
  refuse(annotated, ANNOTATIONS.addressesNoIPAM, "addresses that IPAM does not know are");
  const families = readFamilies(annotated);
  const addresses = readAddresses(annotated);
  const mac = readMAC(annotated);
  const sourcePrefixes = readSourcePrefixes(annotated);
  return {
    ...(families && { families }),
    ...(addresses && { addresses }),
    ...(mac !== undefined && { mac }),
    ...(sourcePrefixes && { sourcePrefixes }),
  };
}

/** A list that somebody wrote, and how to speak of it. */
export interface FoundList {
  readonly items: readonly string[];
  /** Who has which annotation with which text. */
  readonly what: string;
}

/**
 * The JSON list of texts of an annotation: the pod's, else, where that counts, its namespace's.
 *
 * @param example for the message
 * @throws CNIError `InvalidNetworkConfig`
 */
export function readList(
  { pod, podAnnotations, namespaceAnnotations }: Annotated,
  key: string,
  { example, onNamespace = false }: { readonly example: string; readonly onNamespace?: boolean },
): FoundList | undefined {
  const podText = podAnnotations?.[key];
  const [text, owner] = podText
    ? [podText, `Pod ${pod?.namespace}/${pod?.name}`]
    : [onNamespace ? namespaceAnnotations?.[key] : undefined, `Namespace ${pod?.namespace}`];
  if (!text) return undefined;
  const what = describe(owner, key, text);
  const items = parseTexts(text);
  if (items === undefined) throw invalid(what, `want a JSON list such as ${example}; correct it`);
  return { items, what };
}

function readFamilies(annotated: Annotated): readonly Family[] | undefined {
  const example = '["IPv4","IPv6"]';
  const list = readList(annotated, ANNOTATIONS.families, { example, onNamespace: true });
  if (list === undefined) return undefined;
  const wrong = list.items.find((item) => item !== "IPv4" && item !== "IPv6");
  if (wrong !== undefined || list.items.length === 0) throw invalid(list.what, `want one or both of ${example}`);
  const families: readonly Family[] = [4, 6];
  return families.filter((family) => list.items.includes(`IPv${family}`));
}

function readAddresses(annotated: Annotated): readonly IP[] | undefined {
  const list = readList(annotated, ANNOTATIONS.addresses, { example: '["10.0.0.5"]' });
  if (list === undefined) return undefined;
  const addresses = list.items.map((text) => {
    const ip = parsed(parseIP, text.trim());
    if (ip === undefined) throw invalid(list.what, `${JSON.stringify(text)} is no address; correct it`);
    return ip;
  });
  const isOneEach = new Set(addresses.map(familyOf)).size === addresses.length;
  if (addresses.length === 0 || !isOneEach) throw invalid(list.what, "want one IPv4 address, one IPv6 address or both");
  return addresses;
}

function readMAC({ pod, podAnnotations }: Annotated): MAC | undefined {
  const text = podAnnotations?.[ANNOTATIONS.mac];
  if (!text) return undefined;
  const mac = parsed(parseMAC, text.trim());
  // The kernel takes no group address (the lowest bit of the first byte) and not all zeros.
  const isUsable = mac !== undefined && ((macToBytes(mac)[0] ?? 1) & 1) === 0 && mac !== "00:00:00:00:00:00";
  if (isUsable) return mac;
  const what = describe(`Pod ${pod?.namespace}/${pod?.name}`, ANNOTATIONS.mac, text);
  throw invalid(what, "want the Ethernet address of one interface such as 02:00:00:00:00:01; correct it");
}

function readSourcePrefixes(annotated: Annotated): readonly CIDR[] | undefined {
  const list = readList(annotated, ANNOTATIONS.sourcePrefixes, { example: '["10.20.0.0/16"]' });
  return list?.items.map((text) => {
    const cidr = parsed(parseCIDR, text.trim());
    if (cidr === undefined) throw invalid(list.what, `${JSON.stringify(text)} is no network; correct it`);
    return cidr;
  });
}

/** What cannot be given must not be passed over: the pod would run without it. */
function refuse({ pod, podAnnotations }: Annotated, key: string, subject: string): void {
  const text = podAnnotations?.[key];
  if (!text || parseTexts(text)?.length === 0) return;
  const what = describe(`Pod ${pod?.namespace}/${pod?.name}`, key, text);
  throw new CNIError("NotSupportedYet", `${what}, but ${subject} not supported yet; remove the annotation`);
}

function describe(owner: string, key: string, text: string): string {
  return `${owner} has annotation ${key} with ${JSON.stringify(text)}`;
}

function invalid(what: string, reason: string): CNIError {
  return new CNIError("InvalidNetworkConfig", `${what}: ${reason}`);
}

function parsed<T>(parse: (text: string) => T, text: string): T | undefined {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

function parseTexts(text: string): readonly string[] | undefined {
  const value = parsed<unknown>(JSON.parse, text);
  return Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined;
}

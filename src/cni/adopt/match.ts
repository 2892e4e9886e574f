// SPDX-License-Identifier: Apache-2.0
import { ownerOf } from "../../ipam/gc/addresses.ts";
import type { HeldAddress } from "../../ipam/gc/types.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import { hostIfaceOf } from "../iface-name.ts";
import { HOST_MAC } from "../plan.ts";
import type { WiringFacts } from "../ports.ts";
import type { AddResult, AttachmentID, PodRef } from "../types.ts";
import type { HostLink } from "./ports.ts";

/** A pod that holds addresses and whose link, by its name, is there. */
export interface Candidate {
  readonly id: AttachmentID;
  readonly pod: PodRef;
  readonly link: HostLink;
  /** Shape: at least one, all under one handle. */
  readonly addresses: readonly HeldAddress[];
}

/** What is at the other end of a link, in some namespace. */
export interface Sandbox {
  /** Of the namespace. */
  readonly path: string;
  /** Index of the other end on the host. */
  readonly peerIfIndex: number;
  readonly ips: readonly IP[];
}

/** The interface that Kubernetes takes for the pod; Calico's plugin makes no other. */
export const POD_IFACE = "eth0";

/**
 * Brings held addresses and links together, by Calico's rules for names: the link's from namespace and pod, the handle's from
 * network and container. A pod that runs twice, since its old sandbox is not gone yet, has one candidate for each.
 */
export function matchLinks(held: readonly HeldAddress[], links: readonly HostLink[]): readonly Candidate[] {
  const byName = new Map(links.map((link) => [link.name, link]));
  return [...Map.groupBy(held, ({ handleID }) => handleID)].flatMap(([handleID, addresses]) => {
    const owner = ownerOf(addresses[0] as HeldAddress);
    const dot = handleID.lastIndexOf(".");
    // What has no dot is no sandbox's: calico-interop 1.8.
    if (owner.kind !== "pod" || dot <= 0) return [];
    const id = { network: handleID.slice(0, dot), containerID: handleID.slice(dot + 1), ifName: POD_IFACE };
    const pod = { namespace: owner.namespace, name: owner.pod };
    const link = byName.get(hostIfaceOf({ ...id, nodeName: owner.node, pod }));
    return link === undefined ? [] : [{ id, pod, link, addresses }];
  });
}

/** The namespace in which a candidate's other end is, with its addresses. */
export function sandboxOf({ link, addresses }: Candidate, sandboxes: readonly Sandbox[]): Sandbox | undefined {
  return sandboxes.find(
    ({ peerIfIndex, ips }) => peerIfIndex === link.ifIndex && addresses.every(({ ip }) => ips.includes(ip)),
  );
}

/**
 * Says why the kernel does not have the candidate as a finished pod in that namespace; undefined: it has. The host's route is
 * the last that Calico's plugin makes, so without one an ADD may be under way.
 */
export function unlike({ link, addresses }: Candidate, facts: WiringFacts): string | undefined {
  const { hostLink, contLink, contAddrs, hostRoutes } = facts;
  if (hostLink?.ifIndex !== link.ifIndex || contLink === undefined) return "its link has gone";
  if (hostLink.peerIfIndex !== contLink.ifIndex || contLink.peerIfIndex !== hostLink.ifIndex)
    return `${POD_IFACE} of its namespace is not the other end of ${link.name}`;
  if (!hostLink.isUp) return `link ${link.name} is down`;
  for (const { ip } of addresses) {
    if (!contAddrs.some((addr) => addr.ip === ip)) return `${POD_IFACE} of its namespace has not ${formatIP(ip)}`;
    if (hostRoutes.find((each) => each.ip === ip)?.route?.dev !== link.name)
      return `the host has no route to ${formatIP(ip)} over ${link.name}`;
  }
  return undefined;
}

/**
 * What its ADD might have answered. Without routes: what Calico's plugin tells of them is not what the pod has, and CHECK would
 * hold one against the other.
 */
export function adoptedResult(
  { link, addresses }: Candidate,
  path: string,
  { hostLink, contLink }: WiringFacts,
): AddResult {
  return {
    host: { name: link.name, mac: hostLink?.mac ?? HOST_MAC },
    container: {
      name: POD_IFACE,
      mac: contLink?.mac ?? "",
      mtuBytes: contLink?.mtuBytes ?? 0,
      sandbox: path,
    },
    ips: addresses.map(({ ip }) => ip),
    routes: [],
    dns: {},
  };
}

// SPDX-License-Identifier: Apache-2.0
import { OWNER_LABELS, type Reservation, type ReservationOwner } from "../../crds/ip-reservation.ts";
import { seeAddress } from "../../ipam/errors.ts";
import { type CIDR, cidrContains, cidrFamily, cidrSize, ipAt } from "../../net/cidr.ts";
import { type Family, familyOf, formatIP, type IP } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";
import type { PodInfo } from "../ports.ts";
import type { PodRef } from "../types.ts";

/** Everybody who may have fixed the addresses of an attachment. */
export interface FixedNeed {
  /** Absent for a container that is no pod. */
  readonly pod?: PodRef;
  /** The object that made the pod. */
  readonly controller?: PodInfo["controller"];
  /** By the pod's annotation. */
  readonly annotated?: readonly IP[];
  /** By the runtime: its capability `ips`, else IP in CNI_ARGS. */
  readonly asked?: readonly IP[];
  /** Those that name an owner. */
  readonly reservations: readonly Reservation[];
  /** What the attachment gets an address of when nothing is fixed. */
  readonly families: readonly Family[];
}

export interface FixedChoice {
  /** In this order. */
  readonly families: readonly Family[];
  /** At most one for each of the families; for the others any address will do. */
  readonly addresses: readonly IP[];
}

/**
 * Which addresses a pod must have. The pod's annotation decides alone, and also the families; else the addresses
 * that the runtime asks for in the same way; so does Calico with CNI_ARGS. Else the reservation that names this pod, or its StatefulSet, gives the
 * address of each family that it has.
 *
 * @throws CNIError `NoAddress` when a reservation has none for this pod, or keeps the one asked for for somebody else;
 *   `InvalidNetworkConfig` for a reservation that cannot be understood
 */
export function chooseAddresses(need: FixedNeed): FixedChoice {
  const { annotated, asked, pod, reservations, families } = need;
  const named = annotated ?? asked;
  if (named !== undefined) {
    for (const ip of named) refuseOthers(ip, need);
    return { families: named.map(familyOf), addresses: named };
  }
  const own = pod === undefined ? [] : reservations.filter((reservation) => isFor(reservation, pod, need.controller));
  const addresses = families.flatMap((family) => reservedFor(family, own, need) ?? []);
  for (const { name, networks } of own) {
    const other = networks.map(cidrFamily).find((family) => !families.includes(family));
    if (other === undefined) continue;
    const what = `IPReservation ${name} keeps IPv${other} addresses for ${textOf(pod)}, but it gets no IPv${other} address`;
    const ask = `ask for IPv${other} (assign_ipv${other}, or annotation ipFamilies)`;
    const step = `take them out, or ${ask}, see gingham ipam reserve --list`;
    throw new CNIError("InvalidNetworkConfig", `${what}; ${step}`);
  }
  return { families, addresses };
}

/** The place of a pod of a StatefulSet among its pods: the number at the end of its name. */
export function ordinalOfPod(pod: string, set: string): number | undefined {
  const text = pod.startsWith(`${set}-`) ? pod.slice(set.length + 1) : "";
  return /^(?:0|[1-9]\d{0,9})$/.test(text) ? Number(text) : undefined;
}

/** The address with the given place among those of one family, network after network; undefined behind the last. */
export function addressAt(networks: readonly CIDR[], family: Family, index: number): IP | undefined {
  let rest = index;
  for (const network of networks) {
    if (cidrFamily(network) !== family) continue;
    const size = cidrSize(network);
    if (rest < size) return ipAt(network, rest);
    rest -= size;
  }
  return undefined;
}

function reservedFor(family: Family, own: readonly Reservation[], { pod }: FixedNeed): IP | undefined {
  const candidates = own.filter(({ networks }) => networks.some((network) => cidrFamily(network) === family));
  if (candidates.length === 0) return undefined;
  const found = candidates.flatMap(({ name, networks, owner }) => {
    const index = owner && pod ? indexOf(name, owner, pod) : -1;
    const ip = index < 0 ? undefined : addressAt(networks, family, index);
    return ip === undefined ? [] : [{ ip, name }];
  });
  const names = (all: readonly { readonly name: string }[]): string => all.map(({ name }) => name).join(" and ");
  const [first, ...others] = found;
  if (first === undefined) {
    const what = `IPReservation ${names(candidates)} has no IPv${family} address for ${textOf(pod)}`;
    const step = "add one to spec.reservedCIDRs for each pod, or run fewer pods, see gingham ipam reserve --list";
    throw new CNIError("NoAddress", `${what}; ${step}`);
  }
  if (others.length === 0) return first.ip;
  const what = `IPReservations ${names(found)} each keep an IPv${family} address for ${textOf(pod)}`;
  throw new CNIError("InvalidNetworkConfig", `${what}; leave it to one of them, see gingham ipam reserve --list`);
}

/** Which of the reservation's addresses is the pod's; negative: none. */
function indexOf(name: string, owner: ReservationOwner, pod: PodRef): number {
  const [bad] = owner.unreadable;
  if (bad !== undefined) {
    const what = `IPReservation ${name} has ${JSON.stringify(bad)} in spec.reservedCIDRs, which is no address and no network`;
    throw new CNIError("InvalidNetworkConfig", `${what}, so nobody can tell which address is whose; correct it`);
  }
  if (owner.kind === "Pod") return 0;
  if (owner.kind !== "StatefulSet") {
    const what = `IPReservation ${name} has label ${OWNER_LABELS.kind} with ${JSON.stringify(owner.kind)}`;
    throw new CNIError("InvalidNetworkConfig", `${what}, want StatefulSet or Pod; correct it`);
  }
  if (!/^\d{0,9}$/.test(owner.firstOrdinal)) {
    const what = `IPReservation ${name}: its first ordinal is ${JSON.stringify(owner.firstOrdinal)}`;
    throw new CNIError("InvalidNetworkConfig", `${what}, want a number such as 0; correct it`);
  }
  return (ordinalOfPod(pod.name, owner.name) ?? -1) - Number(owner.firstOrdinal);
}

function isFor({ owner }: Reservation, pod: PodRef, controller: PodInfo["controller"]): boolean {
  if (owner === undefined || owner.namespace !== pod.namespace) return false;
  const isPod = owner.name === pod.name;
  const isSet = controller?.kind === "StatefulSet" && controller.name === owner.name;
  if (owner.kind === "Pod") return isPod;
  // Of another kind: a mistake, which is told to whom it may concern.
  return owner.kind === "StatefulSet" ? isSet : isPod || isSet;
}

/** An address that is kept for one pod must not be lost to another, whoever asks for it. */
function refuseOthers(ip: IP, { pod, controller, reservations }: FixedNeed): void {
  for (const reservation of reservations) {
    const { name, networks, owner } = reservation;
    if (owner === undefined || !networks.some((network) => cidrContains(network, ip))) continue;
    if (pod !== undefined && isFor(reservation, pod, controller)) continue;
    const what = `Address ${formatIP(ip)} is kept by IPReservation ${name} for ${owner.kind} ${owner.namespace}/${owner.name}`;
    throw new CNIError("NoAddress", `${what}, not for ${textOf(pod)}; ask for another address, or ${seeAddress(ip)}`);
  }
}

function textOf(pod: PodRef | undefined): string {
  return pod === undefined ? "a container without a pod" : `pod ${pod.namespace}/${pod.name}`;
}

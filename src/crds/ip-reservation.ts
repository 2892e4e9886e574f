// SPDX-License-Identifier: Apache-2.0
import { type CIDR, hostCIDR, parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import { AGE, type KindDefinition } from "./definition.ts";
import { openObject } from "./field-reader.ts";
import type { KubeObject, Resource } from "./object.ts";
import { array, object, string } from "./schema.ts";

export interface IPReservation extends KubeObject {
  readonly spec: { readonly reservedCIDRs: readonly string[] };
}

/** @throws InvalidObjectError */
export function parseIPReservation(raw: unknown): IPReservation {
  const { head, spec, status } = openObject("crd.projectcalico.org/v1", "IPReservation", raw);
  const known = { reservedCIDRs: spec.strings("reservedCIDRs") };
  return { ...head, spec: { ...spec.unread(), ...known }, ...(status === undefined ? {} : { status }) };
}

/**
 * Who gets the addresses of a reservation, by name. Calico never writes a reservation by itself, so labels stay. The name
 * stands in the annotation of the same key when it is too long for a label (63 characters).
 */
export const OWNER_LABELS = {
  kind: "gingham.dev/owner-kind",
  namespace: "gingham.dev/owner-namespace",
  name: "gingham.dev/owner-name",
} as const;
/** Annotation: the ordinal of the StatefulSet's pod that gets the first address of each family; absent: 0. */
export const FIRST_ORDINAL = "gingham.dev/first-ordinal";

/** What of a reservation matters to nodes. */
export interface Reservation {
  readonly name: string;
  /** In the order of the spec. */
  readonly networks: readonly CIDR[];
  /** Absent: nobody gets these addresses but who asks for one by name. */
  readonly owner?: ReservationOwner;
}

export interface ReservationOwner {
  /** `StatefulSet` or `Pod`; another text is somebody's mistake. */
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Text of the annotation; empty: 0. */
  readonly firstOrdinal: string;
  /** Entries of the spec that cannot be read: without them it is not certain which address is whose. */
  readonly unreadable: readonly string[];
}

export function projectReservation({ metadata, spec }: IPReservation): Reservation {
  const { name, labels = {}, annotations = {} } = metadata;
  const networks = spec.reservedCIDRs.flatMap((text) => readNetwork(text) ?? []);
  const ownerName = annotations[OWNER_LABELS.name] ?? labels[OWNER_LABELS.name] ?? "";
  if (ownerName === "") return { name, networks };
  const owner = {
    kind: labels[OWNER_LABELS.kind] ?? "",
    namespace: labels[OWNER_LABELS.namespace] ?? "",
    name: ownerName,
    firstOrdinal: annotations[FIRST_ORDINAL] ?? "",
    unreadable: spec.reservedCIDRs.filter((text) => readNetwork(text) === undefined),
  };
  return { name, networks, owner };
}

/** The reserved networks. As in Calico, blanks are trimmed, a bare address counts, what cannot be read is ignored. */
export function reservedCIDRs({ spec }: IPReservation): CIDR[] {
  return spec.reservedCIDRs.flatMap((text) => readNetwork(text) ?? []);
}

function readNetwork(text: string): CIDR | undefined {
  const trimmed = text.trim();
  try {
    return trimmed.includes("/") ? parseCIDR(trimmed) : hostCIDR(parseIP(trimmed));
  } catch {
    return undefined;
  }
}

export const IP_RESERVATIONS: Resource<IPReservation> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "IPReservation",
  plural: "ipreservations",
  namespaced: false,
  parse: parseIPReservation,
};

export const IP_RESERVATION_KIND: KindDefinition = {
  resource: IP_RESERVATIONS,
  description: "Addresses that automatic assignment leaves alone.",
  spec: object({ reservedCIDRs: array(string(), "Networks or single addresses.") }),
  printerColumns: [{ name: "CIDRs", type: "string", jsonPath: ".spec.reservedCIDRs" }, AGE],
};

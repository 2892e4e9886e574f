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

/** The reserved networks. As in Calico, blanks are trimmed, a bare address counts, what cannot be read is ignored. */
export function reservedCIDRs(reservation: IPReservation): CIDR[] {
  return reservation.spec.reservedCIDRs.flatMap((text) => {
    const trimmed = text.trim();
    try {
      return [trimmed.includes("/") ? parseCIDR(trimmed) : hostCIDR(parseIP(trimmed))];
    } catch {
      return [];
    }
  });
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

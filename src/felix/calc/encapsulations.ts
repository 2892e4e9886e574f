// SPDX-License-Identifier: Apache-2.0
import type { Family } from "../../net/ip.ts";
import type { Encapsulation } from "./pools.ts";

/** An encapsulation, with the family of the packets inside. */
export type EncapsulationOf = `${Encapsulation} ${Family}`;

/**
 * Whether an encapsulation is on, whatever the pools ask for; absent: as they ask. Names are those of Calico's
 * FelixConfiguration, `vxlanEnabled` and `ipipEnabled`.
 *
 * Source: calico-interop 4.4; as in Calico, VXLAN of IPv6 is for the pools alone to decide.
 */
export interface EncapsulationOverrides {
  readonly vxlan?: boolean;
  readonly ipip?: boolean;
}

/** What is in use, of what pools ask for. IP-in-IP carries IPv4 only. */
export function overridden(
  asked: Iterable<EncapsulationOf>,
  { vxlan, ipip }: EncapsulationOverrides,
): ReadonlySet<EncapsulationOf> {
  const used = new Set(asked);
  used.delete("ipip 6");
  for (const [encapsulation, isOn] of [
    ["vxlan 4", vxlan],
    ["ipip 4", ipip],
  ] as const) {
    if (isOn === true) used.add(encapsulation);
    if (isOn === false) used.delete(encapsulation);
  }
  return used;
}

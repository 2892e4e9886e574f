// SPDX-License-Identifier: Apache-2.0
import { type CIDR, hostCIDR, parseCIDR } from "../../net/cidr.ts";
import { type IP, parseIP } from "../../net/ip.ts";
import { UsageError } from "../errors.ts";

/** @throws UsageError */
export function parseAddress(text: string): IP {
  try {
    return parseIP(text);
  } catch {
    throw new UsageError(`${JSON.stringify(text)} is no IP address`);
  }
}

/** An address, or a network. @throws UsageError */
export function parseNetwork(text: string): CIDR {
  try {
    return text.includes("/") ? parseCIDR(text) : hostCIDR(parseIP(text));
  } catch {
    throw new UsageError(`${JSON.stringify(text)} is no IP address and no network such as 10.0.0.16/28`);
  }
}

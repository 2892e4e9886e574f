// SPDX-License-Identifier: Apache-2.0
import { FieldReader } from "../../crds/field-reader.ts";
import { parseJSON } from "../../lib/json.ts";
import { type CIDR, parseCIDR, parseIPWithPrefix } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";
import type { DNS } from "../types.ts";

/** What of an IPAM plugin's answer a routed pod can use: the masks and gateways of a shared segment mean nothing to it. */
export interface IPAMAnswer {
  readonly ips: readonly IP[];
  /** Destinations, which lead through Gingham's own gateway. */
  readonly routes: readonly CIDR[];
  readonly dns: DNS;
}

/**
 * Reads the answer of an IPAM plugin to ADD, of any version: `ips` since 0.3.0, `ip4` and `ip6` before.
 *
 * @throws SyntaxError or InvalidObjectError. Source: CNI SPEC of each version, "Result"
 */
export function parseIPAMAnswer(type: string, text: string): IPAMAnswer {
  const result = new FieldReader("Answer of IPAM plugin", type, "", parseJSON(text));
  const dns = result.value("dns") === undefined ? {} : readDNS(result.nested("dns"));
  const legacy = ["ip4", "ip6"].flatMap((key) => (result.value(key) === undefined ? [] : [result.nested(key)]));
  const ips = [
    ...result.list("ips", (raw, element) => readIP(result.nested(element, raw), "address")),
    ...legacy.map((part) => readIP(part, "ip")),
  ];
  if (ips.length === 0) throw result.fail("ips", result.value("ips"), "at least one address");
  const routes = [result, ...legacy].flatMap((part) =>
    part.list("routes", (raw, element) => parseCIDR(part.nested(element, raw).cidr("dst"))),
  );
  return { ips, routes, dns };
}

function readIP(reader: FieldReader, field: string): IP {
  const text = reader.string(field);
  try {
    return parseIPWithPrefix(text).ip;
  } catch {
    throw reader.fail(field, text, "an address with its prefix length, such as 10.0.0.1/24");
  }
}

function readDNS(reader: FieldReader): DNS {
  const [nameservers, search, options] = ["nameservers", "search", "options"].map((key) => reader.strings(key));
  const domain = reader.optionalString("domain") || undefined;
  return {
    ...(nameservers?.length && { nameservers }),
    ...(domain !== undefined && { domain }),
    ...(search?.length && { search }),
    ...(options?.length && { options }),
  };
}

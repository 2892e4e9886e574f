// SPDX-License-Identifier: Apache-2.0
import { InvalidObjectError } from "../../crds/errors.ts";
import { FieldReader } from "../../crds/field-reader.ts";
import { parseIPWithPrefix } from "../../net/cidr.ts";
import { formatIP } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";

/**
 * What the last plugin of the chain answered to ADD: our own answer, with what plugins after us have added or changed.
 * Source: CNI SPEC 0.4.0 and up, "Result"; it is given to CHECK, which older versions do not have.
 */
export interface PrevResult {
  readonly interfaces: readonly PrevInterface[];
  readonly ips: readonly {
    /** Address and prefix length, as `10.0.0.1/32`. */
    readonly address: string;
    /** Index in `interfaces`. */
    readonly interface?: number;
  }[];
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[];
}

export interface PrevInterface {
  readonly name: string;
  readonly mac?: string;
  /** Since 1.1.0. Units: bytes. */
  readonly mtuBytes?: number;
  /** Empty for an interface of the host. */
  readonly sandbox: string;
}

/** `prevResult` as it is; undefined when there is none. */
export function prevResultIn(raw: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> | undefined {
  const { prevResult } = raw;
  const isObject = typeof prevResult === "object" && prevResult !== null && !Array.isArray(prevResult);
  return isObject ? (prevResult as Readonly<Record<string, unknown>>) : undefined;
}

/**
 * Reads `prevResult` of a network configuration, without which there is nothing to compare with.
 *
 * @throws CNIError InvalidNetworkConfig
 */
export function parsePrevResult(raw: Readonly<Record<string, unknown>>): PrevResult {
  const name = typeof raw["name"] === "string" ? raw["name"] : "";
  if (raw["prevResult"] === undefined || raw["prevResult"] === null) {
    const what = `Network configuration ${name} has no prevResult, with which CHECK compares`;
    throw new CNIError("InvalidNetworkConfig", `${what}; hand in what ADD answered`);
  }
  try {
    return read(new FieldReader("Network configuration", name, "prevResult", raw["prevResult"]));
  } catch (error) {
    if (error instanceof InvalidObjectError) throw new CNIError("InvalidNetworkConfig", error.message);
    throw error;
  }
}

function read(result: FieldReader): PrevResult {
  return {
    interfaces: result.list("interfaces", (raw, element) => readInterface(result.nested(element, raw))),
    ips: result.list("ips", (raw, element) => {
      const ip = result.nested(element, raw);
      const index = ip.optionalInteger("interface", 0, Number.MAX_SAFE_INTEGER);
      return { address: canonical(ip, "address"), ...(index !== undefined && { interface: index }) };
    }),
    routes: result.list("routes", (raw, element) => {
      const route = result.nested(element, raw);
      const gw = route.optionalString("gw") || undefined;
      return { dst: canonical(route, "dst"), ...(gw !== undefined && { gw }) };
    }),
  };
}

function readInterface(iface: FieldReader): PrevInterface {
  const mac = iface.optionalString("mac")?.toLowerCase() || undefined;
  const mtuBytes = iface.optionalInteger("mtu", 0, Number.MAX_SAFE_INTEGER) || undefined;
  return {
    name: iface.string("name"),
    ...(mac !== undefined && { mac }),
    ...(mtuBytes !== undefined && { mtuBytes }),
    sandbox: iface.optionalString("sandbox") ?? "",
  };
}

/** The one text of an address with its prefix length, however the caller wrote it. */
function canonical(reader: FieldReader, field: string): string {
  const text = reader.string(field);
  try {
    const { ip, prefixLength } = parseIPWithPrefix(text);
    return `${formatIP(ip)}/${prefixLength}`;
  } catch {
    throw reader.fail(field, text, "an address with its prefix length, such as 10.0.0.1/32");
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { FieldReader } from "../crds/field-reader.ts";
import { parseMethod } from "../felix/node-address/settings.ts";
import type { Family } from "../net/ip.ts";

/**
 * Turns nodeAddressAutodetectionV4 or V6 into the agent's --ip-autodetection-method; undefined for the Node's own
 * InternalIP, which is what an agent takes by itself. Source: calico-interop 4.7.
 *
 * @throws InvalidObjectError
 */
export function autodetectionMethod(reader: FieldReader, family: Family): string | undefined {
  const first = reader.optionalBoolean("firstFound");
  const kubernetes = reader.optionalEnum("kubernetes", ["NodeInternalIP"]);
  const given = [
    ["firstFound", first === true ? "first-found" : undefined],
    ["kubernetes", kubernetes && "kubernetes-internal-ip"],
    ["interface", prefixed("interface=", reader.optionalString("interface"))],
    ["skipInterface", prefixed("skip-interface=", reader.optionalString("skipInterface"))],
    ["canReach", prefixed("can-reach=", reader.optionalString("canReach"))],
    ["cidrs", prefixed("cidr=", reader.strings("cidrs").join(","))],
  ].filter(([, method]) => method !== undefined);
  const [one, two] = given;
  if (one !== undefined && two !== undefined) throw reader.fail(String(two[0]), "set", `only one: there is ${one[0]}`);
  const [field, method] = one ?? [];
  if (field === undefined || method === undefined) return undefined;
  try {
    // What agents would refuse, each on its own node.
    parseMethod(method, family);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw reader.fail(field, reader.value(field), `another value: ${error.message}`);
  }
  return method;
}

function prefixed(prefix: string, value: string | undefined): string | undefined {
  return value === undefined || value === "" ? undefined : prefix + value;
}

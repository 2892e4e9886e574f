// SPDX-License-Identifier: Apache-2.0
import { InvalidObjectError } from "../crds/errors.ts";
import type { FieldReader } from "../crds/field-reader.ts";
import type { EncapMode, IPPoolSpec } from "../crds/ip-pool.ts";
import { type CIDR, cidrFamily, formatCIDR, parseCIDR } from "../net/cidr.ts";
import { type Family, parseIP } from "../net/ip.ts";
import { SelectorError } from "../selector/errors.ts";
import { parseSelector } from "../selector/selector.ts";
import type { Problem } from "./problem.ts";

/** A pool that an Installation asks for. */
export interface PoolWish {
  readonly name: string;
  readonly cidr: CIDR;
  readonly spec: IPPoolSpec & { readonly blockSize: number };
  /** Where it stands, for messages. */
  readonly field: string;
}

const BLOCK_SIZE: Readonly<Record<Family, { readonly min: number; readonly max: number; readonly fallback: number }>> =
  {
    4: { min: 20, max: 32, fallback: 26 },
    6: { min: 116, max: 128, fallback: 122 },
  };

const ENCAPSULATIONS = ["IPIP", "IPIPCrossSubnet", "VXLAN", "VXLANCrossSubnet", "None"] as const;

const MODES: Readonly<
  Record<(typeof ENCAPSULATIONS)[number], { readonly ipipMode: EncapMode; readonly vxlanMode: EncapMode }>
> = {
  IPIP: { ipipMode: "Always", vxlanMode: "Never" },
  IPIPCrossSubnet: { ipipMode: "CrossSubnet", vxlanMode: "Never" },
  VXLAN: { ipipMode: "Never", vxlanMode: "Always" },
  VXLANCrossSubnet: { ipipMode: "Never", vxlanMode: "CrossSubnet" },
  None: { ipipMode: "Never", vxlanMode: "Never" },
};

/** What is made where an Installation names no pool and the cluster has none. Source: calico-interop 6.1. */
export const DEFAULT_POOL_CIDR = "192.168.0.0/16";

/** Reads spec.calicoNetwork.ipPools. An entry that cannot be used is a problem, and the others are read nevertheless. */
export function readPools(network: FieldReader): {
  readonly wishes: readonly PoolWish[];
  readonly problems: readonly Problem[];
} {
  const taken = new Set<string>();
  const wishes: PoolWish[] = [];
  const problems: Problem[] = [];
  network.list("ipPools", (value, element) => {
    try {
      const reader = network.nested(element, value);
      const wish = readPool(reader, `spec.calicoNetwork.${element}`, taken);
      if (taken.has(wish.name)) throw reader.fail("name", wish.name, "another name than the pool before");
      taken.add(wish.name);
      wishes.push(wish);
    } catch (error) {
      if (!(error instanceof InvalidObjectError)) throw error;
      problems.push({ reason: "InvalidField", field: error.field, message: error.words });
    }
  });
  return { wishes, problems };
}

function readPool(reader: FieldReader, field: string, taken: ReadonlySet<string>): PoolWish {
  const text = reader.string("cidr");
  const cidr = readCIDR(reader, text);
  const family = cidrFamily(cidr);
  const { min, max, fallback } = BLOCK_SIZE[family];
  const blockSize = reader.optionalInteger("blockSize", min, max) ?? Math.max(fallback, cidr.prefixLength);
  if (blockSize < cidr.prefixLength)
    throw reader.fail(
      "blockSize",
      blockSize,
      `${cidr.prefixLength} to ${max}: a block of /${blockSize} does not fit into ${text}`,
    );
  // Source: calico-interop 6.1.
  const encapsulation = reader.optionalEnum("encapsulation", ENCAPSULATIONS) ?? (family === 4 ? "IPIP" : "None");
  if (family === 6 && encapsulation.startsWith("IPIP"))
    throw reader.fail("encapsulation", encapsulation, "VXLAN, VXLANCrossSubnet or None: IP-in-IP carries IPv4 only");
  const isEnabled = (name: string, otherwise: boolean): boolean =>
    (reader.optionalEnum(name, ["Enabled", "Disabled"]) ?? (otherwise ? "Enabled" : "Disabled")) === "Enabled";
  const uses = reader.list("allowedUses", (value, element) => {
    if (value !== "Workload" && value !== "Tunnel") throw reader.fail(element, value, "Workload or Tunnel");
    return value;
  });
  const assignmentMode = reader.optionalEnum("assignmentMode", ["Automatic", "Manual"]);
  const spec: PoolWish["spec"] = {
    cidr: formatCIDR(cidr),
    blockSize,
    ...MODES[encapsulation],
    natOutgoing: isEnabled("natOutgoing", family === 4),
    nodeSelector: readSelector(reader),
    disabled: reader.optionalBoolean("disableNewAllocations") ?? false,
    disableBGPExport: reader.optionalBoolean("disableBGPExport") ?? false,
    ...(uses.length > 0 && { allowedUses: uses }),
    ...(assignmentMode !== undefined && { assignmentMode }),
  };
  const name = reader.optionalString("name") || defaultName(cidr, taken);
  if (!/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(name))
    throw reader.fail("name", name, "small letters, digits, - and .");
  return { name, cidr, spec, field };
}

function readSelector(reader: FieldReader): string {
  const text = reader.optionalString("nodeSelector") || "all()";
  try {
    parseSelector(text);
  } catch (error) {
    if (!(error instanceof SelectorError)) throw error;
    throw reader.fail("nodeSelector", text, `a selector such as all() or has(rack): ${error.message}`);
  }
  return text;
}

function readCIDR(reader: FieldReader, text: string): CIDR {
  let cidr: CIDR;
  try {
    cidr = parseCIDR(text);
  } catch {
    throw reader.fail("cidr", text, "a network such as 10.244.0.0/16");
  }
  const [ip = ""] = text.split("/");
  // parseCIDR cuts the host's bits off; who wrote them may have meant another network.
  if (parseIP(ip) !== cidr.network)
    throw reader.fail("cidr", text, `${formatCIDR(cidr)}: bits after the prefix are set`);
  return cidr;
}

function defaultName(cidr: CIDR, taken: ReadonlySet<string>): string {
  const first = `default-ipv${cidrFamily(cidr)}-ippool`;
  return taken.has(first) ? formatCIDR(cidr).replace(/[^0-9a-f]+/g, "-") : first;
}

/** The pool for a cluster that has none. */
export function defaultPool(): PoolWish {
  const spec = {
    cidr: DEFAULT_POOL_CIDR,
    blockSize: 26,
    ...MODES.IPIP,
    natOutgoing: true,
  } as const;
  return {
    name: "default-ipv4-ippool",
    cidr: parseCIDR(DEFAULT_POOL_CIDR),
    spec: { ...spec, nodeSelector: "all()", disabled: false, disableBGPExport: false },
    field: "spec.calicoNetwork.ipPools",
  };
}

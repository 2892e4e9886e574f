// SPDX-License-Identifier: Apache-2.0
import { type CIDR, cidrCovers, cidrFamily, parseCIDR } from "../net/cidr.ts";
import { bitsOf, type Family } from "../net/ip.ts";
import { AGE, type KindDefinition } from "./definition.ts";
import { openObject, present } from "./field-reader.ts";
import type { KubeObject, Resource } from "./object.ts";
import { array, boolean, integer, object, string } from "./schema.ts";

export type EncapMode = "Never" | "Always" | "CrossSubnet";
export type AllowedUse = "Workload" | "Tunnel" | "LoadBalancer";
export type AssignmentMode = "Automatic" | "Manual";

/** As stored. Readers apply the defaults of calico-interop 1.3 with `effectiveIPPool`. */
export interface IPPoolSpec {
  readonly cidr: string;
  readonly blockSize?: number;
  readonly ipipMode?: EncapMode;
  readonly vxlanMode?: EncapMode;
  readonly natOutgoing?: boolean;
  readonly disabled?: boolean;
  readonly disableBGPExport?: boolean;
  readonly nodeSelector?: string;
  readonly namespaceSelector?: string;
  readonly allowedUses?: readonly AllowedUse[];
  readonly assignmentMode?: AssignmentMode;
}

export interface IPPoolCondition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
  /** RFC 3339: since when the status is what it is. */
  readonly lastTransitionTime?: string;
}

/** Calico's condition. False means to every reader, ours and Calico's, that the pool is not enabled. Source: calico-interop 1.3. */
export const ALLOCATABLE = "Allocatable";
/** Ours, written by the controller: whether the pool does what its spec says, and if not, what will happen. */
export const HEALTHY = "gingham.dev/Healthy";

export interface IPPool extends KubeObject {
  readonly spec: IPPoolSpec;
  readonly status?: { readonly conditions?: readonly IPPoolCondition[] };
}

/** A pool as allocation and routing read it: parsed, with every default applied. */
export interface EffectiveIPPool {
  readonly name: string;
  readonly cidr: CIDR;
  readonly family: Family;
  readonly blockSize: number;
  readonly ipipMode: EncapMode;
  readonly vxlanMode: EncapMode;
  readonly natOutgoing: boolean;
  readonly disableBGPExport: boolean;
  readonly nodeSelector: string;
  /** Absent: every namespace. */
  readonly namespaceSelector?: string;
  readonly allowedUses: readonly AllowedUse[];
  readonly assignmentMode: AssignmentMode;
  /** Addresses may be assigned: not disabled, not being deleted, not declared unfit by the pool controller. */
  readonly enabled: boolean;
}

const MODES: readonly EncapMode[] = ["Never", "Always", "CrossSubnet"];
const USES: readonly AllowedUse[] = ["Workload", "Tunnel", "LoadBalancer"];
const ASSIGNMENTS: readonly AssignmentMode[] = ["Automatic", "Manual"];

/** Prefix lengths that blocks may have. Source: calico-interop 1.3. */
const BLOCK_SIZES = { 4: { min: 20, max: 32, fallback: 26 }, 6: { min: 116, max: 128, fallback: 122 } } as const;

/**
 * Loopback, link-local and multicast addresses: no pod can be reached by one. Pods' own gateway is link-local. Source:
 * calico-interop 1.3 (link-local), RFC 6890, RFC 5771, RFC 4291.
 */
const NOT_FOR_PODS = ["127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::1/128", "fe80::/10", "ff00::/8"].map(
  parseCIDR,
);

/** Checks a pool as it is stored, without defaults. @throws InvalidObjectError */
export function parseIPPool(raw: unknown): IPPool {
  const { head, spec, status } = openObject("crd.projectcalico.org/v1", "IPPool", raw);
  const cidr = spec.cidr("cidr");
  const { prefixLength } = parseCIDR(cidr);
  const { min, max } = BLOCK_SIZES[cidrFamily(parseCIDR(cidr))];
  const disabled = spec.optionalBoolean("disabled");
  // A disabled one may say that traffic to such addresses is not masqueraded.
  if (disabled !== true && NOT_FOR_PODS.some((network) => cidrCovers(network, parseCIDR(cidr))))
    throw spec.fail("cidr", cidr, "a network that is not loopback, link-local or multicast");
  // Go's zero value means "not set".
  const blockSize = spec.optionalInteger("blockSize", 0, bitsOf(cidrFamily(parseCIDR(cidr)))) || undefined;
  if (blockSize !== undefined && (blockSize < min || blockSize > max || blockSize < prefixLength))
    throw spec.fail("blockSize", blockSize, `${Math.max(min, prefixLength)} to ${max} for ${cidr}`);
  const known = {
    cidr,
    ...present({
      blockSize,
      ipipMode: spec.optionalEnum("ipipMode", MODES),
      vxlanMode: spec.optionalEnum("vxlanMode", MODES),
      natOutgoing: spec.optionalBoolean("natOutgoing"),
      disabled,
      disableBGPExport: spec.optionalBoolean("disableBGPExport"),
      nodeSelector: spec.optionalString("nodeSelector"),
      namespaceSelector: spec.optionalString("namespaceSelector"),
      assignmentMode: spec.optionalEnum("assignmentMode", ASSIGNMENTS),
    }),
    ...(spec.value("allowedUses") === undefined
      ? {}
      : {
          allowedUses: spec.list("allowedUses", (value, element) => {
            const use = USES.find((u) => u === value);
            if (use === undefined) throw spec.fail(element, value, `one of ${USES.join(", ")}`);
            return use;
          }),
        }),
  };
  return {
    ...head,
    spec: { ...spec.unread(), ...known },
    // Written by a controller under the same schema; only conditions that are there are looked at.
    ...(status === undefined ? {} : { status: status as NonNullable<IPPool["status"]> }),
  };
}

/** Applies the defaults that Calico's readers apply. Source: calico-interop 1.3. */
export function effectiveIPPool(pool: IPPool): EffectiveIPPool {
  const { spec } = pool;
  const cidr = parseCIDR(spec.cidr);
  const family = cidrFamily(cidr);
  const unfit = pool.status?.conditions?.some((c) => c.type === ALLOCATABLE && c.status === "False") ?? false;
  const deleting = pool.metadata.deletionTimestamp !== undefined;
  return {
    name: pool.metadata.name,
    cidr,
    family,
    // A pool smaller than a block of the default size is one block; Calico refuses it at creation.
    blockSize: spec.blockSize ?? Math.max(BLOCK_SIZES[family].fallback, cidr.prefixLength),
    ipipMode: spec.ipipMode ?? "Never",
    vxlanMode: spec.vxlanMode ?? "Never",
    natOutgoing: spec.natOutgoing ?? false,
    disableBGPExport: spec.disableBGPExport ?? false,
    nodeSelector: spec.nodeSelector || "all()",
    ...(spec.namespaceSelector ? { namespaceSelector: spec.namespaceSelector } : {}),
    allowedUses: spec.allowedUses?.length ? spec.allowedUses : ["Workload", "Tunnel"],
    assignmentMode: spec.assignmentMode ?? "Automatic",
    enabled: !(spec.disabled ?? false) && !deleting && !unfit,
  };
}

export const IP_POOLS: Resource<IPPool> = {
  group: "crd.projectcalico.org",
  version: "v1",
  kind: "IPPool",
  plural: "ippools",
  namespaced: false,
  parse: parseIPPool,
};

/** Blocks of the old shape stay where they are, so a pool that changes would overlap with itself. */
function unchanged(field: string): { readonly rule: string; readonly message: string } {
  return {
    rule: "self == oldSelf",
    message: `${field} of a pool cannot be changed: make another pool, disable this one, and restart its pods`,
  };
}

/** As readers take it: absent and 0 are the default. */
const BLOCK_SIZE_RULE = (pool: "self" | "oldSelf"): string =>
  `(has(${pool}.blockSize) && ${pool}.blockSize != 0 ? ${pool}.blockSize : ` +
  `${pool}.cidr.contains(':') ? ${BLOCK_SIZES[6].fallback} : ${BLOCK_SIZES[4].fallback})`;

const POOL_RULES = [
  {
    // Of the whole spec: a rule of the field alone would not see that it was taken away.
    rule: `${BLOCK_SIZE_RULE("self")} == ${BLOCK_SIZE_RULE("oldSelf")}`,
    message: unchanged("blockSize").message,
  },
  {
    rule: "!has(self.ipipMode) || !has(self.vxlanMode) || self.ipipMode == 'Never' || self.vxlanMode == 'Never'",
    message: "a pool tunnels in IP-in-IP or in VXLAN, not in both: set ipipMode or vxlanMode to Never",
  },
  {
    rule: "!has(self.ipipMode) || self.ipipMode == 'Never' || !self.cidr.contains(':')",
    message: "IP-in-IP carries IPv4 only: set ipipMode of an IPv6 pool to Never",
  },
  {
    rule:
      "!has(self.blockSize) || self.blockSize == 0 || (self.cidr.contains(':') ? self.blockSize >= 116 && self.blockSize <= 128 : " +
      "self.blockSize >= 20 && self.blockSize <= 32)",
    message: "blockSize must be from 20 to 32 for IPv4, and from 116 to 128 for IPv6",
  },
] as const;

function conditionPath(type: string, field: keyof IPPoolCondition): string {
  return `.status.conditions[?(@.type=="${type}")].${field}`;
}

export const IP_POOL_KIND: KindDefinition = {
  resource: IP_POOLS,
  description: "Addresses that blocks are cut out of, and how traffic to them travels.",
  spec: object(
    {
      cidr: string("The pool's network. Cannot be changed.", {
        format: "cidr",
        maxLength: 48,
        "x-kubernetes-validations": [unchanged("cidr")],
      }),
      blockSize: integer(
        "Prefix length of the pool's blocks: 26 (IPv4) or 122 (IPv6) when absent. Cannot be changed.",
        { minimum: 0, maximum: 128 },
      ),
      ipipMode: string("When to tunnel in IP-in-IP.", { default: "Never", enum: MODES }),
      vxlanMode: string("When to tunnel in VXLAN.", { default: "Never", enum: MODES }),
      natOutgoing: boolean("Masquerade traffic from the pool to destinations outside of all pools."),
      disabled: boolean("Assign no new addresses from the pool."),
      disableBGPExport: boolean("Do not announce the pool's blocks over BGP."),
      nodeSelector: string("The nodes that may use the pool: all() when absent."),
      namespaceSelector: string("The namespaces whose pods may use the pool: all when absent."),
      allowedUses: array(string(undefined, { enum: USES }), "What addresses are for: Workload and Tunnel when absent."),
      assignmentMode: string("Automatic, or Manual: only when a pod asks for this pool.", { enum: ASSIGNMENTS }),
      // Old releases of Calico stored these; readers ignore them, and pruning them would be somebody's loss.
      ipip: object(
        { enabled: boolean(), mode: string() },
        { description: "Not used: kept for objects of old releases of Calico." },
      ),
      "nat-outgoing": boolean("Not used: kept for objects of old releases of Calico."),
    },
    { required: ["cidr"], "x-kubernetes-validations": POOL_RULES },
  ),
  status: object({
    conditions: array(
      object(
        {
          type: string(),
          status: string(),
          reason: string(),
          message: string(),
          observedGeneration: integer(undefined, { format: "int64" }),
          lastTransitionTime: string(undefined, { format: "date-time" }),
        },
        { required: ["type", "status"] },
      ),
      `${ALLOCATABLE} says whether addresses may be assigned from the pool; ${HEALTHY} says what is wrong with it.`,
    ),
  }),
  statusSubresource: true,
  printerColumns: [
    { name: "CIDR", type: "string", jsonPath: ".spec.cidr" },
    { name: "BlockSize", type: "integer", jsonPath: ".spec.blockSize" },
    { name: "IPIP", type: "string", jsonPath: ".spec.ipipMode" },
    { name: "VXLAN", type: "string", jsonPath: ".spec.vxlanMode" },
    { name: "NAT", type: "boolean", jsonPath: ".spec.natOutgoing" },
    { name: "Disabled", type: "boolean", jsonPath: ".spec.disabled" },
    { name: "Selector", type: "string", jsonPath: ".spec.nodeSelector", priority: 1 },
    { name: "Allocatable", type: "string", jsonPath: conditionPath(ALLOCATABLE, "status") },
    { name: "Healthy", type: "string", jsonPath: conditionPath(HEALTHY, "status") },
    AGE,
    // Last, since it is long; empty while all is well.
    { name: "Message", type: "string", jsonPath: conditionPath(HEALTHY, "message") },
  ],
};

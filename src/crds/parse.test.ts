// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseJSON, stringifyJSON } from "../lib/json.ts";
import { formatCIDR } from "../net/cidr.ts";
import { parseBlockAffinity } from "./block-affinity.ts";
import { parseClusterInformation } from "./cluster-information.ts";
import { InvalidObjectError } from "./errors.ts";
import { FELIX_CONFIGURATION_KIND, parseFelixConfiguration } from "./felix-configuration.ts";
import { effectiveIPPool, parseIPPool } from "./ip-pool.ts";
import { parseIPReservation, reservedCIDRs } from "./ip-reservation.ts";
import { parseIPAMBlock } from "./ipam-block.ts";
import { DEFAULT_IPAM_CONFIG, parseIPAMConfig } from "./ipam-config.ts";
import { parseIPAMHandle } from "./ipam-handle.ts";
import { parseKubeControllersConfiguration } from "./kube-controllers-configuration.ts";

function raw(kind: string, name: string, spec: unknown): Record<string, unknown> {
  return { apiVersion: "crd.projectcalico.org/v1", kind, metadata: { name }, spec };
}

const BLOCK_SPEC = {
  cidr: "10.0.0.0/30",
  affinity: "host:a",
  allocations: [0, null, null, null],
  unallocated: [2, 3, 1],
  attributes: [{ handle_id: "h", secondary: { node: "a" } }],
  strictAffinity: false,
};

describe("parseIPAMBlock()", () => {
  const block = (spec: object): Record<string, unknown> => raw("IPAMBlock", "10-0-0-0-30", { ...BLOCK_SPEC, ...spec });

  test("round trip keeps 64-bit integers byte for byte", () => {
    const numbers = `"sequenceNumber":1787395200123456789,"sequenceNumberForAllocation":{"0":1787395200123456788}`;
    const text = stringifyJSON(block({})).replace('"strictAffinity"', `${numbers},"strictAffinity"`);
    const parsed = parseIPAMBlock(parseJSON(text));
    expect(parsed.spec.sequenceNumber).toBe(1787395200123456789n);
    expect(stringifyJSON(parsed)).toContain(numbers);
  });

  test("a number beyond 64 bits is refused, whatever its sign", () => {
    for (const sequenceNumber of [2n ** 63n, -(2n ** 63n) - 1n, 1e300])
      expect(() => parseIPAMBlock(block({ sequenceNumber }))).toThrow(
        /spec.sequenceNumber is .* want a 64-bit integer/,
      );
    const largest = { sequenceNumberForAllocation: { "0": 2n ** 63n - 1n } };
    expect(parseIPAMBlock(block(largest)).spec).toMatchObject(largest);
  });

  test("small sequence numbers become bigint, absent ones 0n and an empty map", () => {
    const small = parseIPAMBlock(block({ sequenceNumber: 3, sequenceNumberForAllocation: { "0": 2 } }));
    expect(small.spec).toMatchObject({ sequenceNumber: 3n, sequenceNumberForAllocation: { "0": 2n } });
    expect(parseIPAMBlock(block({})).spec).toMatchObject({ sequenceNumber: 0n, sequenceNumberForAllocation: {} });
  });

  test("absent deleted is false; a parsed block parses to itself", () => {
    const parsed = parseIPAMBlock(block({}));
    expect(parsed.spec.deleted).toBe(false);
    expect(parseIPAMBlock(parsed)).toEqual(parsed);
  });

  test("an owner that is empty or null is no owner", () => {
    for (const affinity of ["", null]) expect(parseIPAMBlock(block({ affinity })).spec).not.toHaveProperty("affinity");
  });

  test("unknown fields stay where they are", () => {
    const attributes = [{ handle_id: "h", newer: 1 }];
    const parsed = parseIPAMBlock({ ...block({ attributes, newer: { a: 1 } }), extra: true });
    expect(parsed).toMatchObject({ extra: true, spec: { newer: { a: 1 }, attributes } });
  });

  test("metadata passes through whole", () => {
    const metadata = { name: "b", uid: "u", managedFields: [{ manager: "kubectl" }] };
    expect(parseIPAMBlock({ ...block({}), metadata }).metadata).toEqual(metadata);
  });

  test.each([
    [{ cidr: 5 }, "spec.cidr", 5],
    [{ cidr: "10.0.0.0" }, "spec.cidr", "10.0.0.0"],
    [{ allocations: [null, "x", null, null] }, "spec.allocations[1]", "x"],
    [{ allocations: [null, -1, null, null] }, "spec.allocations[1]", -1],
    [{ allocations: [null] }, "spec.allocations.length", 1],
    [{ unallocated: [0.5] }, "spec.unallocated[0]", 0.5],
    [{ attributes: [{ handle_id: 1 }] }, "spec.attributes[0].handle_id", 1],
    [{ attributes: [{ secondary: { node: 1 } }] }, 'spec.attributes[0].secondary["node"]', 1],
    [{ sequenceNumber: "1" }, "spec.sequenceNumber", "1"],
    [{ sequenceNumber: 1.5 }, "spec.sequenceNumber", 1.5],
    [{ sequenceNumberForAllocation: { "0": "1" } }, 'spec.sequenceNumberForAllocation["0"]', "1"],
    [{ deleted: "true" }, "spec.deleted", "true"],
  ])("refuses %j and names the field", (spec, field, value) => {
    const error = failure(() => parseIPAMBlock(block(spec)));
    expect(error).toMatchObject({ code: "InvalidObject", kind: "IPAMBlock", objectName: "10-0-0-0-30", field, value });
    expect(error.message).toContain(`IPAMBlock 10-0-0-0-30: ${field} is ${JSON.stringify(value)}`);
  });

  test.each([[null], [[]], ["text"], [{}], [{ metadata: { name: "" } }], [{ metadata: { name: "b" } }]])(
    "refuses %j, which is no object of the API",
    (value) => {
      expect(failure(() => parseIPAMBlock(value))).toBeInstanceOf(InvalidObjectError);
    },
  );

  test("refuses another kind", () => {
    expect(failure(() => parseIPAMBlock({ ...block({}), kind: "IPPool" }))).toMatchObject({ field: "kind" });
  });
});

test("parseIPAMHandle() reads counts by block, and none as an empty map", () => {
  const spec = { handleID: "net.ABC", block: { "10.0.0.0/26": 2 } };
  expect(parseIPAMHandle(raw("IPAMHandle", "net.abc", spec)).spec).toEqual({ ...spec, deleted: false });
  expect(parseIPAMHandle(raw("IPAMHandle", "net.abc", { handleID: "h", block: null })).spec.block).toEqual({});
  const bad = { handleID: "h", block: { "10.0.0.0/26": -1 } };
  expect(failure(() => parseIPAMHandle(raw("IPAMHandle", "h", bad)))).toMatchObject({ value: -1 });
});

test("parseBlockAffinity() keeps the mark a string and an old empty state", () => {
  const spec = { cidr: "10.0.0.0/26", node: "a", state: "" };
  const read = (more: object): unknown =>
    parseBlockAffinity(raw("BlockAffinity", "a-10-0-0-0-26", { ...spec, ...more })).spec;
  expect(read({ deleted: "" })).toEqual({ ...spec, deleted: "false" });
  expect(read({ deleted: "true", state: "pendingDeletion" })).toEqual({
    ...spec,
    deleted: "true",
    state: "pendingDeletion",
  });
  expect(failure(() => read({ deleted: "false", state: "lost" }))).toMatchObject({
    field: "spec.state",
    value: "lost",
  });
});

describe("effectiveIPPool()", () => {
  const pool = (spec: object, more: object = {}): ReturnType<typeof effectiveIPPool> =>
    effectiveIPPool(parseIPPool({ ...raw("IPPool", "p", spec), ...more }));

  test.each([
    ["10.0.0.0/16", 4, 26],
    ["fd00::/48", 6, 122],
    ["10.0.0.0/28", 4, 28],
  ])("applies every default to %s", (cidr, family, blockSize) => {
    const { cidr: parsed, ...rest } = pool({ cidr });
    expect(formatCIDR(parsed)).toBe(cidr);
    expect(rest).toEqual({
      name: "p",
      family,
      blockSize,
      ipipMode: "Never",
      vxlanMode: "Never",
      natOutgoing: false,
      disableBGPExport: false,
      nodeSelector: "all()",
      allowedUses: ["Workload", "Tunnel"],
      assignmentMode: "Automatic",
      enabled: true,
    });
  });

  test.each(["127.0.0.0/8", "169.254.7.0/24", "239.0.0.0/16", "::1/128", "fe80::/64", "ff05::/112"])(
    "%s is no pool that gives addresses, but may say where to masquerade nothing",
    (cidr) => {
      expect(failure(() => pool({ cidr }))).toMatchObject({ field: "spec.cidr", value: cidr });
      expect(pool({ cidr, disabled: true }).enabled).toBe(false);
    },
  );

  test("zero values of Go are defaults, too", () => {
    const zero = { blockSize: 0, ipipMode: "", nodeSelector: "", allowedUses: [], assignmentMode: "" };
    expect(pool({ cidr: "10.0.0.0/16", ...zero })).toEqual(pool({ cidr: "10.0.0.0/16" }));
  });

  test.each([
    [{ cidr: "10.0.0.0/16", disabled: true }, {}],
    [{ cidr: "10.0.0.0/16" }, { metadata: { name: "p", deletionTimestamp: "2026-01-01T00:00:00Z" } }],
    [{ cidr: "10.0.0.0/16" }, { status: { conditions: [{ type: "Allocatable", status: "False" }] } }],
  ])("is not enabled: %j %j", (spec, more) => {
    expect(pool(spec, more).enabled).toBe(false);
  });

  test.each([
    { cidr: "10.0.0.0/16", blockSize: 19 },
    { cidr: "10.0.0.0/16", blockSize: 33 },
    { cidr: "10.0.0.0/28", blockSize: 26 },
    { cidr: "fd00::/48", blockSize: 64 },
  ])("refuses a block size that does not fit: %j", (spec) => {
    expect(failure(() => pool(spec))).toMatchObject({ field: "spec.blockSize", value: spec.blockSize });
  });

  test("refuses an unknown use", () => {
    const spec = { cidr: "10.0.0.0/16", allowedUses: ["Workload", "Fun"] };
    expect(failure(() => pool(spec))).toMatchObject({ field: "spec.allowedUses[1]", value: "Fun" });
  });
});

test("parseIPAMConfig() fills in what is absent", () => {
  const config = parseIPAMConfig(raw("IPAMConfig", "default", { strictAffinity: true, autoAllocateBlocks: true }));
  expect(config.spec).toEqual({ ...DEFAULT_IPAM_CONFIG, strictAffinity: true });
  const bad = raw("IPAMConfig", "default", { ipCooldownSeconds: 1201 });
  expect(failure(() => parseIPAMConfig(bad))).toMatchObject({ field: "spec.ipCooldownSeconds" });
});

test("reservedCIDRs() trims, takes bare addresses and ignores the rest", () => {
  const reservation = parseIPReservation(
    raw("IPReservation", "r", { reservedCIDRs: [" 10.0.0.0/30 ", "10.0.1.1", "fd00::1", "nonsense", ""] }),
  );
  expect(reservedCIDRs(reservation).map(formatCIDR)).toEqual(["10.0.0.0/30", "10.0.1.1/32", "fd00::1/128"]);
});

test("parseClusterInformation() and parseKubeControllersConfiguration() keep settings that we do not read", () => {
  const info = { clusterGUID: "g", datastoreReady: true, newer: "x" };
  expect(parseClusterInformation(raw("ClusterInformation", "default", info)).spec).toEqual(info);
  const settings = {
    controllers: { node: { leakGracePeriod: "15m", syncLabels: "Enabled" }, policy: { reconcilerPeriod: "5m" } },
    healthChecks: "Enabled",
  };
  expect(parseKubeControllersConfiguration(raw("KubeControllersConfiguration", "default", settings)).spec).toEqual(
    settings,
  );
});

function failure(call: () => unknown): Error {
  try {
    call();
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error("The call succeeded");
}

describe("parseFelixConfiguration()", () => {
  test("keeps every field as it is, known or not, right or wrong", () => {
    const spec = { vxlanVNI: "many", natPortRange: 5, bpfEnabled: false, failsafeInboundHostPorts: [{ port: 22 }] };
    const parsed = parseFelixConfiguration(raw("FelixConfiguration", "default", spec));
    expect(parsed.spec).toEqual(spec);
    expect(parseFelixConfiguration(parseJSON(stringifyJSON(parsed)))).toEqual(parsed);
    expect(FELIX_CONFIGURATION_KIND.spec["x-kubernetes-preserve-unknown-fields"]).toBe(true);
  });

  test("wants an object as spec", () => {
    expect(() => parseFelixConfiguration(raw("FelixConfiguration", "default", "x"))).toThrow(InvalidObjectError);
  });
});

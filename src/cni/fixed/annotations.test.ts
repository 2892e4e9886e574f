// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";
import { ANNOTATIONS, type PodWishes, readWishes } from "./annotations.ts";

const pod = { namespace: "default", name: "web-0" };

function read(podAnnotations: Record<string, string>, namespaceAnnotations: Record<string, string> = {}): PodWishes {
  return readWishes({ pod, podAnnotations, namespaceAnnotations });
}

function refusal(podAnnotations: Record<string, string>): { readonly code: string; readonly message: string } {
  try {
    read(podAnnotations);
  } catch (error) {
    if (error instanceof CNIError) return error;
    throw error;
  }
  return { code: "accepted", message: "" };
}

describe("readWishes()", () => {
  it("reads everything that Calico's plugin reads of a pod", () => {
    const wishes = read({
      [ANNOTATIONS.addresses]: '["10.0.0.5", "FD00::5"]',
      [ANNOTATIONS.families]: '["IPv6","IPv4"]',
      [ANNOTATIONS.mac]: "02:00:00:00:00:AA",
      [ANNOTATIONS.sourcePrefixes]: '["10.20.0.0/16","fd01::/64"]',
    });
    expect(wishes).toEqual({
      addresses: [parseIP("10.0.0.5"), parseIP("fd00::5")],
      families: [4, 6],
      mac: "02:00:00:00:00:aa",
      sourcePrefixes: [parseCIDR("10.20.0.0/16"), parseCIDR("fd01::/64")],
    });
    expect(readWishes({})).toEqual({});
  });

  it("takes the families of the namespace when the pod says nothing, and nothing else of it", () => {
    const namespace = { [ANNOTATIONS.families]: '["IPv6"]', [ANNOTATIONS.addresses]: '["10.0.0.5"]' };
    expect(read({}, namespace)).toEqual({ families: [6] });
    expect(read({ [ANNOTATIONS.families]: '["IPv4"]' }, namespace)).toEqual({ families: [4] });
  });

  it("passes over empty text, as one who has no annotation", () => {
    expect(read(Object.fromEntries(Object.values(ANNOTATIONS).map((key) => [key, ""])))).toEqual({});
  });

  it.each([
    [ANNOTATIONS.addresses, "10.0.0.5"],
    [ANNOTATIONS.addresses, "[]"],
    [ANNOTATIONS.addresses, '["10.0.0.5","10.0.0.6"]'],
    [ANNOTATIONS.addresses, '["10.0.0.5/32"]'],
    [ANNOTATIONS.addresses, '["10.0.0.5","fd00::5","fd00::6"]'],
    [ANNOTATIONS.addresses, "[1]"],
    [ANNOTATIONS.families, "[]"],
    [ANNOTATIONS.families, '["ipv4"]'],
    [ANNOTATIONS.families, "IPv4"],
    [ANNOTATIONS.mac, "02:00"],
    [ANNOTATIONS.mac, "01:00:00:00:00:01"],
    [ANNOTATIONS.mac, "00:00:00:00:00:00"],
    [ANNOTATIONS.sourcePrefixes, '["10.20.0.0"]'],
    [ANNOTATIONS.sourcePrefixes, "10.20.0.0/16"],
  ])("refuses %s with %j and names pod and annotation", (key, text) => {
    const { code, message } = refusal({ [key]: text });
    expect(code).toBe("InvalidNetworkConfig");
    expect(message).toContain(`Pod default/web-0 has annotation ${key} with ${JSON.stringify(text)}: `);
  });

  it.each([
    [ANNOTATIONS.floatingIPs, '["1.2.3.4"]'],
    [ANNOTATIONS.floatingIPs, "broken"],
    [ANNOTATIONS.addressesNoIPAM, '["1.2.3.4"]'],
  ])("never passes over %s with %j", (key, text) => {
    const { code, message } = refusal({ [key]: text });
    expect(code).toBe("NotSupportedYet");
    expect(message).toMatch(/^Pod default\/web-0 has annotation .* not supported yet; remove the annotation$/);
    expect(read({ [key]: "[]" })).toEqual({});
  });
});

// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { formatIP } from "../../net/ip.ts";
import { fakeNode } from "../fake-resources.ts";
import {
  LOCAL_METHODS,
  type NodeAddress,
  REMOTE_METHODS,
  resolveNodeAddresses,
  sameAddresses,
} from "./node-addresses.ts";

const say = (address: NodeAddress | undefined): string | undefined =>
  address && `${formatIP(address.ip)}/${address.prefixLength ?? "?"} ${address.method}`;

describe("resolveNodeAddresses()", () => {
  test("takes the first InternalIP of each family", () => {
    const node = fakeNode("n", ["192.0.2.1", "192.0.2.9", "2001:db8::1"]);
    const { ipv4, ipv6 } = resolveNodeAddresses(node, REMOTE_METHODS);
    expect(say(ipv4)).toBe("192.0.2.1/? kubernetes-internal-ip");
    expect(say(ipv6)).toBe("2001:db8::1/? kubernetes-internal-ip");
  });

  test("lets another node's annotation win, and this node's InternalIP", () => {
    const node = fakeNode("n", ["192.0.2.1"], {
      "projectcalico.org/IPv4Address": "198.51.100.1/24",
      "projectcalico.org/IPv6Address": "2001:db8::5/64",
    });
    expect(say(resolveNodeAddresses(node, REMOTE_METHODS).ipv4)).toBe("198.51.100.1/24 annotation");
    expect(say(resolveNodeAddresses(node, LOCAL_METHODS).ipv4)).toBe("192.0.2.1/? kubernetes-internal-ip");
    expect(say(resolveNodeAddresses(node, LOCAL_METHODS).ipv6)).toBe("2001:db8::5/64 annotation");
  });

  test("takes an annotation without a length, ignores an empty one, and names what is malformed", () => {
    const bare = fakeNode("n", [], { "projectcalico.org/IPv4Address": "198.51.100.1" });
    expect(say(resolveNodeAddresses(bare, REMOTE_METHODS).ipv4)).toBe("198.51.100.1/? annotation");
    const empty = fakeNode("n", ["192.0.2.1"], { "projectcalico.org/IPv4Address": "" });
    expect(say(resolveNodeAddresses(empty, REMOTE_METHODS).ipv4)).toBe("192.0.2.1/? kubernetes-internal-ip");
    const bad = fakeNode("n", ["x", "192.0.2.1"], { "projectcalico.org/IPv4Address": "2001:db8::1/64" });
    const resolved = resolveNodeAddresses(bad, REMOTE_METHODS);
    expect(say(resolved.ipv4)).toBe("192.0.2.1/? kubernetes-internal-ip");
    expect(resolved.malformed).toEqual(["projectcalico.org/IPv4Address 2001:db8::1/64", "InternalIP x"]);
  });
});

describe("sameAddresses()", () => {
  test("tells a changed prefix length, and not how the address was found", () => {
    const of = (annotation: string, ips: string[] = []) =>
      resolveNodeAddresses(fakeNode("n", ips, { "projectcalico.org/IPv4Address": annotation }), REMOTE_METHODS);
    expect(sameAddresses(of("192.0.2.1/24"), of("192.0.2.1/25"))).toBe(false);
    expect(sameAddresses(of("192.0.2.1"), of("", ["192.0.2.1"]))).toBe(true);
    expect(sameAddresses(undefined, of("192.0.2.1"))).toBe(false);
    expect(sameAddresses(undefined, undefined)).toBe(true);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseIP } from "../net/ip.ts";
import { EndpointBook } from "./endpoint-book.ts";
import type { Endpoint } from "./ports.ts";

function endpoint(key: string, ...ips: readonly string[]): Endpoint {
  return { key, hostIface: `cali${key}`, hostIfIndex: 1, ips: ips.map(parseIP) };
}

describe("holderOf()", () => {
  const setUp = (): EndpointBook => new EndpointBook({ endpointUp: () => {}, endpointDown: () => {} });
  const holder = (book: EndpointBook, ip: string, hostIface = "caliother"): string | undefined =>
    book.holderOf([parseIP(ip)], hostIface)?.key;

  test("names who is up with any of the addresses, on another interface", async () => {
    const book = setUp();
    await book.up(endpoint("1", "10.0.0.1", "fd00::1"));
    expect([holder(book, "10.0.0.1"), holder(book, "fd00::1"), holder(book, "10.0.0.2")]).toEqual([
      "1",
      "1",
      undefined,
    ]);
    expect(holder(book, "10.0.0.1", "cali1")).toBeUndefined();
  });

  test("forgets the addresses that an endpoint no longer has, and those of one that goes down", async () => {
    const book = setUp();
    await book.up(endpoint("1", "10.0.0.1"));
    await book.up(endpoint("1", "10.0.0.2"));
    expect([holder(book, "10.0.0.1"), holder(book, "10.0.0.2")]).toEqual([undefined, "1"]);
    await book.down("1");
    expect(holder(book, "10.0.0.2")).toBeUndefined();
  });

  test("of two that have one address, the other stays when one goes", async () => {
    const book = setUp();
    await book.up(endpoint("1", "10.0.0.1"));
    await book.up(endpoint("2", "10.0.0.1"));
    expect(holder(book, "10.0.0.1", "cali1")).toBe("2");
    await book.down("2");
    expect(holder(book, "10.0.0.1")).toBe("1");
  });
});

// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync } from "node:fs";
import { expect, test } from "vitest";
import * as libc from "./libc.ts";
import { NetlinkSocket } from "./socket.ts";

// node:ffi is experimental: this is the test that tells when it has changed. It needs no privilege.

test("socket() fails with the errno of this very call", () => {
  for (let i = 0; i < 100; i++) {
    expect(() => libc.socket(-1, 0, 0)).toThrow(expect.objectContaining({ errnoName: "EAFNOSUPPORT" }));
    expect(() => libc.setns(-1)).toThrow(expect.objectContaining({ errnoName: "EBADF" }));
  }
});

test("namespaceType() tells a network namespace from another kind", () => {
  const [net, mnt] = [openSync("/proc/self/ns/net", "r"), openSync("/proc/self/ns/mnt", "r")];
  expect(libc.namespaceType(net)).toBe(libc.CLONE_NEWNET);
  expect(libc.namespaceType(mnt)).not.toBe(libc.CLONE_NEWNET);
  closeSync(net);
  closeSync(mnt);
});

test("NetlinkSocket is bound to a port of its own", () => {
  using a = new NetlinkSocket();
  using b = new NetlinkSocket({ nonBlocking: true });
  expect(a.portID).toBeGreaterThan(0);
  expect(b.portID).not.toBe(a.portID);
  expect(b.receive(new Uint8Array(16))).toBeUndefined();
});

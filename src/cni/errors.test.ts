// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { IPAMError } from "../ipam/errors.ts";
import { UnreachableError } from "../kube/errors.ts";
import { GinghamError } from "../lib/errors.ts";
import { KernelWorkerError, NetlinkError, WiringError } from "../netlink/errors.ts";
import { CancelledError, CNIError, isTransient, mayHaveTaken, toErrorObject } from "./errors.ts";

const target = { verb: "update", resource: "ipamblocks", objectName: "10-0-0-0-26" };

describe("toErrorObject()", () => {
  it.each([
    [new CNIError("InvalidNetworkConfig", "mtu"), 7],
    [new CancelledError("ADD", "a DEL arrived"), 11],
    [new IPAMError("NoAddress", "full"), 101],
    [new IPAMError("Overlap", "full"), 101],
    [new IPAMError("PoolNotFound", "pool"), 102],
    [new IPAMError("NotReady", "locked"), 11],
    [new IPAMError("Contention", "busy"), 11],
    [new IPAMError("Datastore", "down"), 11],
    [new IPAMError("InvalidHandle", "name"), 7],
    [new UnreachableError(target, "connect ECONNREFUSED"), 11],
    [new WiringError("NetnsGone", "gone"), 4],
    [new WiringError("IfaceExists", "eth0"), 4],
    [new WiringError("Kernel", "EPERM"), 104],
    [new NetlinkError({ op: "RTM_NEWLINK", errno: 1 }), 104],
    [new KernelWorkerError("died"), 11],
    [new GinghamError("Anything", "else"), 100],
    [new DOMException("aborted", "AbortError"), 11],
    [Object.assign(new Error("ENOSPC"), { code: "ENOSPC", syscall: "write" }), 5],
    [new TypeError("bug"), 100],
  ])("%s is code %i", (error, code) => {
    expect(toErrorObject(error, "1.0.0")).toMatchObject({ cniVersion: "1.0.0", code, msg: error.message });
  });

  it("tells the causes in details", () => {
    const cause = new UnreachableError(target, "connect ECONNREFUSED 10.0.0.1:6443");
    expect(toErrorObject(new IPAMError("Datastore", "Cannot assign", { cause }), "1.0.0").details).toContain("6443");
  });
});

it("mayHaveTaken() believes IPAM, and nobody else", () => {
  expect(mayHaveTaken(new IPAMError("NoAddress", "full"))).toBe(false);
  expect(mayHaveTaken(new IPAMError("Datastore", "down", { mayHoldAddresses: true }))).toBe(true);
  expect(mayHaveTaken(new Error("?"))).toBe(true);
});

it("isTransient() is true of what a later try may cure", () => {
  expect(isTransient(new IPAMError("Datastore", "down"))).toBe(true);
  expect(isTransient(new IPAMError("NoAddress", "full"))).toBe(false);
});

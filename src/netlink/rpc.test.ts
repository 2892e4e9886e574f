// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { GinghamError, InvariantError } from "../lib/errors.ts";
import { KernelWorkerError, NetlinkError, SysctlError, WiringError } from "./errors.ts";
import { packError, unpackError } from "./rpc.ts";
import { DecodeError } from "./wire/errors.ts";

const netlink = new NetlinkError({ op: "RTM_NEWROUTE 10.0.0.0/26", errno: 17, extack: { message: "File exists" } });

describe("unpackError(packError(e))", () => {
  test.each([
    netlink,
    new NetlinkError({ op: "setns", errno: 1 }),
    new WiringError("IfaceExists", "eth0 is taken", { cause: netlink }),
    new SysctlError("/proc/sys/net/ipv4/ip_forward", "Cannot write 1", { cause: new Error("EROFS") }),
    new DecodeError("too short"),
    new InvariantError("must not be"),
    new KernelWorkerError("gone"),
    new GinghamError("Else", "something else"),
    new TypeError("not ours"),
  ])("keeps class, code, fields and cause across a thread: $name", (error) => {
    const copy = unpackError(structuredClone(packError(error)));
    expect(copy.constructor).toBe(error instanceof GinghamError ? error.constructor : Error);
    const { name, message, stack } = error;
    expect(copy).toMatchObject({ ...Object.fromEntries(Object.entries(error)), name, message, stack });
    expect(copy.cause instanceof Error ? copy.cause.message : undefined).toBe(
      error.cause instanceof Error ? error.cause.message : undefined,
    );
  });

  test("takes anything that was thrown", () => {
    expect(unpackError(packError("text"))).toMatchObject({ name: "Error", message: "text" });
  });
});

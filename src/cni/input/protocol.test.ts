// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { parseIP } from "../../net/ip.ts";
import { CNIError } from "../errors.ts";
import { parseArgs, parseCall } from "./protocol.ts";

const ADD = { CNI_COMMAND: "ADD", CNI_CONTAINERID: "c1", CNI_NETNS: "/run/netns/a", CNI_IFNAME: "eth0" };

function messageOf(env: Record<string, string | undefined>): string {
  try {
    parseCall(env);
  } catch (error) {
    if (error instanceof CNIError && error.cniCode === 4) return error.message;
    throw error;
  }
  return "accepted";
}

describe("parseCall()", () => {
  it("reads what containerd's CRI sends", () => {
    const CNI_ARGS =
      "K8S_POD_UID=u;IgnoreUnknown=1;K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns-1;K8S_POD_INFRA_CONTAINER_ID=c1";
    expect(parseCall({ ...ADD, CNI_ARGS, CNI_PATH: "/opt/cni/bin", HOME: "/" })).toEqual({
      command: "ADD",
      containerID: "c1",
      ifName: "eth0",
      netns: "/run/netns/a",
      args: { pod: { namespace: "kube-system", name: "dns-1", uid: "u" }, infraContainerID: "c1" },
    });
  });

  it("names every missing variable at once", () => {
    expect(messageOf({ CNI_COMMAND: "ADD", CNI_IFNAME: "" })).toBe(
      "ADD needs CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME: not set or empty",
    );
    expect(messageOf({ CNI_COMMAND: "DEL" })).toBe("DEL needs CNI_CONTAINERID, CNI_IFNAME: not set or empty");
  });

  it("lets DEL go without a namespace", () => {
    expect(parseCall({ ...ADD, CNI_COMMAND: "DEL", CNI_NETNS: "" })).toMatchObject({ command: "DEL", netns: "" });
    expect(parseCall({ ...ADD, CNI_COMMAND: "DEL", CNI_NETNS: undefined })).toMatchObject({ netns: "" });
  });

  it.each(["VERSION", "GC", "STATUS"])("ignores dummies with %s", (command) => {
    const dummies = { CNI_CONTAINERID: "", CNI_NETNS: "dummy", CNI_IFNAME: "dummy dummy", CNI_ARGS: "dummy" };
    expect(parseCall({ CNI_COMMAND: command, ...dummies })).toEqual({
      command,
      containerID: "",
      ifName: "",
      netns: "",
      args: {},
    });
  });

  it.each([
    ["no command", { CNI_COMMAND: undefined }, "CNI_COMMAND is not set"],
    ["an unknown command", { CNI_COMMAND: "add" }, 'CNI_COMMAND is "add"'],
    ["a container ID that is a path", { CNI_CONTAINERID: "../x" }, 'CNI_CONTAINERID "../x"'],
    ["a container ID that begins with a dash", { CNI_CONTAINERID: "-x" }, 'CNI_CONTAINERID "-x"'],
    ["a container ID with a line feed", { CNI_CONTAINERID: "x\n" }, "CNI_CONTAINERID"],
    ["a container ID too long for a file name", { CNI_CONTAINERID: "x".repeat(231) }, "has 231 characters"],
    ["a relative namespace", { CNI_NETNS: "run/netns/a" }, 'CNI_NETNS "run/netns/a"'],
    ["an interface name of 16", { CNI_IFNAME: "a".repeat(16) }, "has 16 bytes"],
    ["an interface name of 16 bytes", { CNI_IFNAME: "äääääääää" }, "has 18 bytes"],
    ["a slash", { CNI_IFNAME: "a/b" }, 'CNI_IFNAME "a/b"'],
    // The kernel would count, and make eth0.
    ["a pattern", { CNI_IFNAME: "eth%d" }, 'CNI_IFNAME "eth%d"'],
    ["the folder of all interfaces' settings", { CNI_IFNAME: "all" }, 'CNI_IFNAME "all"'],
    ["what was no UTF-8", { CNI_IFNAME: "eth\u{fffd}" }, 'CNI_IFNAME "eth\u{fffd}"'],
    ["a colon", { CNI_IFNAME: "a:b" }, 'CNI_IFNAME "a:b"'],
    ["a blank", { CNI_IFNAME: "a b" }, 'CNI_IFNAME "a b"'],
    ["a dot", { CNI_IFNAME: "." }, 'CNI_IFNAME "."'],
    ["two dots", { CNI_IFNAME: ".." }, 'CNI_IFNAME ".."'],
    ["arguments that are no pairs", { CNI_ARGS: "foo" }, '"foo" is not KEY=VALUE'],
    ["contradictory arguments", { CNI_ARGS: "A=1;A=2" }, "A is given twice"],
    ["another sandbox", { CNI_ARGS: "K8S_POD_INFRA_CONTAINER_ID=c2" }, "K8S_POD_INFRA_CONTAINER_ID differs"],
  ])("refuses %s by name", (_what, bad, message) => {
    expect(messageOf({ ...ADD, ...bad })).toContain(message);
  });

  it("reads the address that the arguments ask for, and refuses what is none, but only on ADD", () => {
    expect(parseCall({ ...ADD, CNI_ARGS: "IP=10.0.0.9" }).asked).toBe(parseIP("10.0.0.9"));
    expect(parseCall({ ...ADD, CNI_ARGS: "IP=FD00::9" }).asked).toBe(parseIP("fd00::9"));
    expect(parseCall({ ...ADD, CNI_ARGS: "IP=" })).not.toHaveProperty("asked");
    for (const IP of ["10.0.0.9/24", "10.0.0", "10.0.0.9,fd00::9", "x"]) {
      expect(messageOf({ ...ADD, CNI_ARGS: `IP=${IP}` })).toContain(`IP is "${IP}", want one address`);
      expect(parseCall({ ...ADD, CNI_COMMAND: "DEL", CNI_ARGS: `IP=${IP}` })).not.toHaveProperty("asked");
    }
  });

  it("refuses an IgnoreUnknown that is no boolean, as CNI's library does", () => {
    for (const text of ["1", "0", "true", "False", ""]) parseCall({ ...ADD, CNI_ARGS: `IgnoreUnknown=${text}` });
    expect(messageOf({ ...ADD, CNI_ARGS: "A=1;IgnoreUnknown=yes" })).toContain('IgnoreUnknown is "yes"');
    parseCall({ ...ADD, CNI_COMMAND: "DEL", CNI_ARGS: "IgnoreUnknown=yes" });
  });

  it("lets DEL go whatever its arguments are", () => {
    expect(parseCall({ ...ADD, CNI_COMMAND: "DEL", CNI_ARGS: "foo" })).toMatchObject({ containerID: "c1", args: {} });
    expect(parseCall({ ...ADD, CNI_COMMAND: "DEL", CNI_ARGS: "A=1;A=2" }).args).toEqual({});
  });
});

describe("parseArgs()", () => {
  it("takes a pod name without a namespace for no pod: that is podman", () => {
    expect(parseArgs("IgnoreUnknown=1;K8S_POD_NAME=web")).toEqual({});
    expect(parseArgs("K8S_POD_NAMESPACE=default")).toEqual({});
  });

  it("ignores unknown keys, empty pairs and values with =", () => {
    expect(parseArgs("X=a=b;;K8S_POD_NAME=n;K8S_POD_NAMESPACE=s;")).toEqual({ pod: { namespace: "s", name: "n" } });
  });
});

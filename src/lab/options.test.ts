// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { UsageError } from "./errors.ts";
import { DEFAULT_OPTIONS, parseLabArgs } from "./options.ts";

test("parseLabArgs() without arguments runs the default laboratory", () => {
  expect(parseLabArgs([])).toEqual({ kind: "run", options: DEFAULT_OPTIONS });
});

test("parseLabArgs() takes every option, with a blank or an equals sign", () => {
  const argv = [
    "--once",
    "--nodes",
    "5",
    "--pods=20",
    "--block-size",
    "28",
    "--families",
    "dual",
    "--vxlan",
    "CrossSubnet",
    "--keep-on-failure",
  ];
  expect(parseLabArgs(argv)).toEqual({
    kind: "run",
    options: {
      nodes: 5,
      pods: 20,
      blockSize: 28,
      families: [4, 6],
      vxlan: "CrossSubnet",
      once: true,
      keepOnFailure: true,
    },
  });
});

test("parseLabArgs() hands everything after shell and kubectl through", () => {
  expect(parseLabArgs(["shell", "node-1", "ip", "route", "--help"])).toEqual({
    kind: "shell",
    target: "node-1",
    command: ["ip", "route", "--help"],
  });
  expect(parseLabArgs(["kubectl", "get", "ipamblocks", "-o", "yaml"])).toEqual({
    kind: "kubectl",
    args: ["get", "ipamblocks", "-o", "yaml"],
  });
});

test("parseLabArgs() takes --lab right after shell and kubectl, and nowhere else", () => {
  expect(parseLabArgs(["shell", "--lab", "4711", "node-1", "ls", "--lab"])).toEqual({
    kind: "shell",
    lab: "4711",
    target: "node-1",
    command: ["ls", "--lab"],
  });
  expect(parseLabArgs(["kubectl", "--lab=4711", "get", "pods"])).toEqual({
    kind: "kubectl",
    lab: "4711",
    args: ["get", "pods"],
  });
});

test.each([
  [["--nodes", "0"], /--nodes must be a whole number from 1 to 32, got "0"/],
  [["--nodes", "three"], /"three"/],
  [["--pods", "1"], /from 2 to 1000/],
  [["--block-size", "33"], /from 20 to 32/],
  [["--vxlan", "always"], /--vxlan must be one of Never, Always, CrossSubnet, got "always"/],
  [["--families", "ipv5"], /--families must be one of ipv4, ipv6, dual, got "ipv5"/],
  [["shell", "--lab"], /--lab needs the ID of a laboratory/],
  [["kubectl", "--lab="], /--lab needs the ID of a laboratory/],
  [["shell"], /shell needs a node or a pod/],
  [["--frobnicate"], /--help/],
  [["frobnicate"], /--help/],
])("parseLabArgs(%j) says what is wrong", (argv, message) => {
  expect(() => parseLabArgs(argv)).toThrow(UsageError);
  expect(() => parseLabArgs(argv)).toThrow(message);
});

// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { KubeConfigError, kubeErrorOf, UnreachableError } from "../kube/errors.ts";
import { MemoryClient } from "../kube/memory-client.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { type CommandContext, type CommandEntry, defineCommand } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { findKubeConfig } from "./connect.ts";
import { RefusedError } from "./errors.ts";
import { runCLI } from "./run.ts";

interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly kubeconfig: string | undefined;
}

async function run(
  argv: readonly string[],
  commands: readonly CommandEntry[] = COMMANDS,
  world: { readonly isTTY?: boolean; readonly env?: Record<string, string> } = {},
): Promise<Ran> {
  let [stdout, stderr] = ["", ""];
  let kubeconfig: string | undefined;
  const status = await runCLI(argv, commands, {
    env: world.env ?? {},
    stdout: { write: (text) => (stdout += text), isTTY: world.isTTY },
    stderr: { write: (text) => (stderr += text) },
    clock: new FakeClock(),
    connect: (flag) => {
      kubeconfig = flag;
      return Promise.resolve(new MemoryClient());
    },
    confirm: () => Promise.resolve(false),
  });
  return { status, stdout, stderr, kubeconfig };
}

/** `gingham do it`, which does this. */
function commandOf(
  fn: (context: CommandContext, values: { readonly count?: string }) => Promise<number>,
): CommandEntry[] {
  const command = defineCommand({
    usage: "gingham do it: does it",
    options: { count: { type: "string" } },
    run: async ({ values }, context) => await fn(context, values),
  });
  return [{ name: "do it", summary: "does it", load: () => Promise.resolve(command) }];
}

const throwing = (error: Error): CommandEntry[] => commandOf(() => Promise.reject(error));
const target = { verb: "list", resource: "ipamblocks.crd.projectcalico.org" };

describe("runCLI()", () => {
  it("lists the commands for --help with status 0, and for nothing at all with status 2", async () => {
    for (const [argv, status] of [
      [["--help"], 0],
      [["help"], 0],
      [[], 2],
      [["ipam"], 2],
    ] as const) {
      const ran = await run(argv);
      expect([argv, ran.status]).toEqual([argv, status]);
      for (const { name } of COMMANDS) expect(ran.stdout).toContain(`gingham ${name}`);
    }
  });

  it("has a usage for each command, without a cluster", async () => {
    for (const { name } of COMMANDS) {
      const ran = await run([...name.split(" "), "--help"]);
      expect(ran).toMatchObject({ status: 0, stderr: "" });
      expect(ran.stdout).toMatch(new RegExp(`^(Usage: )?gingham ${name}`));
      expect(ran.stdout).toContain("--kubeconfig");
    }
  });

  it.each([
    [["nonsense"], 'There is no command "nonsense"'],
    [["do", "it", "--nonsense"], "--nonsense"],
    [["do", "it", "-o", "xml"], '--output is "xml", want table, wide, json, yaml'],
    [["do", "it", "--count"], "count"],
  ])("answers %j with status 2 and the reason", async (argv, reason) => {
    const ran = await run(
      argv,
      commandOf(() => Promise.resolve(0)),
    );
    expect(ran.status).toBe(2);
    expect(ran.stderr).toContain(reason);
    expect(ran.stderr).toMatch(/\nTry: gingham (do it )?--help\n$/);
  });

  it("hands over values, kubeconfig and format, and the command's status", async () => {
    const commands = commandOf(async (context, { count }) => {
      await context.connect();
      await context.show(() => "table", { count, format: context.format });
      return 1;
    });
    expect(await run(["do", "it", "--count", "3", "--kubeconfig", "/k", "-o", "json"], commands)).toEqual({
      status: 1,
      stdout: '{\n  "count": "3",\n  "format": "json"\n}\n',
      stderr: "",
      kubeconfig: "/k",
    });
    expect((await run(["do", "it"], commands)).stdout).toBe("table");
    expect((await run(["do", "it", "-o", "yaml"], commands)).stdout).toContain("format: yaml\n");
  });

  it.each([
    [true, {}, [], true],
    [true, { NO_COLOR: "1" }, [], false],
    [true, {}, ["-o", "json"], false],
    [false, {}, [], false],
  ])("colours on a terminal (%s) with %j and %j: %s", async (isTTY, env, more, hasColor) => {
    let seen: boolean | undefined;
    const commands = commandOf((context) => {
      seen = context.hasColor;
      return Promise.resolve(0);
    });
    await run(["do", "it", ...more], commands, { isTTY, env });
    expect(seen).toBe(hasColor);
  });

  it.each([
    [new RefusedError("Nothing was done"), 1, /^gingham: Nothing was done\n$/],
    [new KubeConfigError("No API server"), 2, /No API server/],
    [
      new UnreachableError(target, "connect ECONNREFUSED 127.0.0.1:1"),
      2,
      /ECONNREFUSED.*\nNo connection.*--kubeconfig/s,
    ],
    [
      new Error("Cannot list blocks", { cause: kubeErrorOf(target, { status: 403, message: "no" }) }),
      2,
      /lacks the right: list on ipamblocks, apiGroup crd\.projectcalico\.org\n/,
    ],
    [kubeErrorOf({ verb: "list", resource: "pods" }, { status: 403 }), 2, /list on pods, the core group/],
    [kubeErrorOf(target, { status: 404 }), 2, /does not have the kind ipamblocks.*kubectl apply/],
    [kubeErrorOf(target, { status: 401, message: "who?" }), 2, /401, who\?; check the credentials\n$/],
  ])("explains %s", async (error, status, text) => {
    const ran = await run(["do", "it"], throwing(error));
    expect(ran.status).toBe(status);
    expect(ran.stderr).toMatch(text);
  });
});

describe("findKubeConfig()", () => {
  const exists =
    (...paths: readonly string[]) =>
    (path: string): boolean =>
      paths.includes(path);
  const home = { HOME: "/home/me" };
  const file = "/home/me/.kube/config";

  it.each([
    ["the flag first", "/flag", { ...home, KUBECONFIG: "/env" }, ["/env", file], "/flag"],
    ["then KUBECONFIG", undefined, { ...home, KUBECONFIG: "/env" }, ["/env", file], "/env"],
    [
      "KUBECONFIG also when it is not there, for the message",
      undefined,
      { ...home, KUBECONFIG: "/env" },
      [file],
      "/env",
    ],
    ["the one of several that is there", undefined, { KUBECONFIG: "/a:/b:" }, ["/b"], "/b"],
    ["then the one at home", undefined, { ...home, KUBERNETES_SERVICE_HOST: "10.0.0.1" }, [file], file],
    ["then the pod's own account", undefined, { ...home, KUBERNETES_SERVICE_HOST: "10.0.0.1" }, [], undefined],
  ])("takes %s", (_what, flag, env, paths, expected) => {
    expect(findKubeConfig(flag, env, exists(...paths))).toBe(expected);
  });

  it("refuses several files, which kubectl would merge, and none at all", () => {
    expect(() => findKubeConfig(undefined, { KUBECONFIG: "/a:/b" }, exists("/a", "/b"))).toThrow(
      /2 files.*--kubeconfig/,
    );
    expect(() => findKubeConfig(undefined, home, exists())).toThrow(/there is no \/home\/me\/\.kube\/config/);
  });
});

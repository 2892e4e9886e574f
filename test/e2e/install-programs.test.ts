// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const PLUGINS = "/usr/lib/cni";
const LAUNCHER = readFileSync("dist/gingham");

let root: string;
let binDir: string;
let stateDir: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "gingham-install-"));
  [binDir, stateDir] = [join(root, "bin"), join(root, "state")];
});

afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs the real installer in a mount namespace of its own.
 *
 * @param prepare shell commands before it, such as mounts
 */
function install(args: readonly string[], prepare = "true"): Ended {
  const options = ["--bin-dir", binDir, "--state-dir", stateDir, "--plugins-dir", PLUGINS, ...args];
  const script = `set -e; ${prepare}; exec "$@"`;
  const argv = ["--mount", "--propagation", "private", "sh", "-c", script, "sh", process.execPath, "dist/install.mjs"];
  const { status, stdout, stderr, error } = spawnSync("unshare", [...argv, ...options], { encoding: "utf8" });
  if (error !== undefined) throw error;
  return { status, stdout, stderr };
}

/** All in the runtime's folder as `name mode`. */
function listing(): string[] {
  return readdirSync(binDir)
    .toSorted()
    .map((name) => `${name} ${(statSync(join(binDir, name)).mode & 0o777).toString(8)}`);
}

/** As a mount shows it: what is in a tmpfs of the namespace is gone with it. */
function onTmpfs(options: string): string {
  mkdirSync(binDir, { recursive: true });
  return `mount -t tmpfs -o ${options} none ${binDir}`;
}

describe("gingham-install", () => {
  test("copies the programs, and leaves them alone when they are the same", () => {
    const first = install(["--plugins", "portmap,bandwidth"], "umask 077");
    expect(first.stderr).toBe("");
    expect(first.stdout.split("\n").filter((line) => line.endsWith(": installed"))).toHaveLength(listing().length);
    expect(listing().filter((line) => !line.startsWith("gingham-standalone"))).toEqual([
      "bandwidth 755",
      "gingham 755",
      "gingham-ipam 755",
      "portmap 755",
    ]);
    expect(readFileSync(join(binDir, "gingham"))).toEqual(LAUNCHER);
    expect(readFileSync(join(binDir, "portmap"))).toEqual(readFileSync(join(PLUGINS, "portmap")));
    const inodes = (): number[] => readdirSync(binDir).map((name) => statSync(join(binDir, name)).ino);
    const before = inodes();
    const second = install(["--plugins", "portmap,bandwidth"]);
    expect(second.stdout).not.toMatch(/: (installed|updated)/);
    expect(inodes()).toEqual(before);
  });

  test("replaces its own programs whatever they are, and of plugins only those that it has installed", () => {
    mkdirSync(binDir);
    for (const name of ["gingham", "portmap"]) writeFileSync(join(binDir, name), "older", { mode: 0o700 });
    // Left by an installer that was killed half-way.
    writeFileSync(join(binDir, ".gingham.gingham-new"), "half");
    const { stdout } = install(["--plugins", "portmap,bandwidth"]);
    expect(stdout).toContain(`${binDir}/gingham: updated\n`);
    expect(stdout).toContain(`${binDir}/portmap: another one is there, which stays\n`);
    expect(readFileSync(join(binDir, "portmap"), "utf8")).toBe("older");
    expect(listing().some((line) => line.includes("gingham-new"))).toBe(false);
    // The image brings another bandwidth next time: here the host's one is another.
    const plugins = join(root, "plugins");
    mkdirSync(plugins);
    for (const name of ["portmap", "bandwidth"]) writeFileSync(join(plugins, name), "newer");
    expect(install(["--plugins", "bandwidth", "--plugins-dir", plugins]).stdout).toContain("bandwidth: updated");
    expect(readFileSync(join(binDir, "bandwidth"), "utf8")).toBe("newer");
    const all = install(["--plugins", "portmap", "--plugins-dir", plugins, "--replace-plugins", "on"]);
    expect(all.stdout).toContain("portmap: updated");
  });

  test.each([
    ["a read-only folder", "ro", "the file system is read-only; name a folder that can be written to (--bin-dir, "],
    ["a full disk", "size=40k", "the disk is full; make room there (--bin-dir, "],
    ["a folder that forbids execution", "noexec", "its file system forbids it; mount it without noexec"],
  ])("names %s, and leaves no half file", (_what, options, words) => {
    const list = `trap 'ls -A ${binDir} > ${root}/listing' EXIT`;
    const prepare = `${onTmpfs(options)}; ${list}; set +e; "$@"; exit $?`;
    const { status, stderr } = install(["--plugins", "OursOnly"], prepare);
    expect(stderr).toContain(words);
    expect(stderr).toContain(`${binDir}/gingham`);
    expect(status).toBe(1);
    const left = readFileSync(join(root, "listing"), "utf8")
      .split("\n")
      .filter((line) => line !== "");
    if (options !== "noexec") expect(left).toEqual([]);
  });

  test("keeps the old program when the disk is full", () => {
    const fill = `head -c 20k /dev/zero > ${binDir}/gingham; cp ${binDir}/gingham ${root}/old`;
    const prepare = `${onTmpfs("size=40k")}; ${fill}; set +e; "$@"; cmp ${binDir}/gingham ${root}/old; exit $?`;
    const { status, stderr } = install(["--plugins", "OursOnly"], prepare);
    expect(stderr).toContain("the disk is full");
    expect(status).toBe(0);
  });

  test("names a folder that is a file, a plugin that is not shipped, and a wrong option", () => {
    writeFileSync(binDir, "");
    expect(install([]).stderr).toContain(`Cannot make the folder ${binDir}: `);
    rmSync(binDir);
    expect(install(["--plugins", "portmap,nosuch"]).stderr).toContain(
      `Cannot read ${PLUGINS}/nosuch: there is no such file`,
    );
    expect(install(["--plugins", "../../bin/sh"]).stderr).toContain(
      '--plugins: got "../../bin/sh", want All, OursOnly, or names as loopback',
    );
    expect(install(["--bin-dir", "opt/cni"]).stderr).toContain('--bin-dir: got "opt/cni", want an absolute path');
  });
});

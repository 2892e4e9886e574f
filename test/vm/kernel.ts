// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { NotRunError } from "./not-run.ts";

/** A kernel that is unpacked and not installed. */
export interface GuestKernel {
  readonly version: string;
  readonly image: string;
  /** The folder with a folder for each version. */
  readonly modulesDir: string;
}

const METAPACKAGE = "linux-image-amd64";

/** Debian's kernel, out of the folder, or downloaded and unpacked there. @throws NotRunError */
export function findKernel(folder: string): GuestKernel {
  const found = inFolder(folder);
  if (found !== undefined) return found;
  download(folder);
  const unpacked = inFolder(folder);
  if (unpacked === undefined) throw new NotRunError(`${METAPACKAGE} has no boot/vmlinuz-*`);
  return unpacked;
}

function inFolder(folder: string): GuestKernel | undefined {
  const [image] = globSync(join(folder, "boot/vmlinuz-*"));
  if (image === undefined) return undefined;
  const version = basename(image).slice("vmlinuz-".length);
  const modulesDir = join(folder, "lib/modules");
  // Written last, so that half an unpacking is none.
  return existsSync(join(modulesDir, version, "modules.dep")) ? { version, image, modulesDir } : undefined;
}

function download(folder: string): void {
  const shown = run("apt-cache", ["depends", METAPACKAGE], folder);
  const name = /Depends: (linux-image-\S+)/.exec(shown)?.[1];
  if (name === undefined) throw new NotRunError(`apt knows no ${METAPACKAGE}; run apt-get update`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  run("apt-get", ["download", "-q", name], folder);
  const [deb = ""] = globSync(join(folder, "*.deb"));
  run("dpkg-deb", ["-x", deb, "."], folder);
  rmSync(deb);
  run("busybox", ["depmod", "-b", folder, name.slice("linux-image-".length)], folder);
}

function run(command: string, args: readonly string[], cwd: string): string {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    encoding: "utf8",
    ...(existsSync(cwd) && { cwd }),
  });
  if (status !== 0)
    throw new NotRunError(
      `no kernel for the machine: ${command} ${args.join(" ")}: ${error?.message ?? stderr.trim()}`,
    );
  return stdout;
}

/** Modules with all that they need, each after what it needs. @param names as `modinfo` says them */
export function modulesInOrder({ modulesDir, version }: GuestKernel, names: readonly string[]): readonly string[] {
  const folder = join(modulesDir, version);
  const lines = readFileSync(join(folder, "modules.dep"), "utf8").split("\n");
  const needs = new Map(
    lines.flatMap((line) => {
      const [path = "", rest = ""] = line.split(":");
      return path === "" ? [] : [[moduleName(path), { path, names: rest.split(" ").filter(Boolean).map(moduleName) }]];
    }),
  );
  const order = new Set<string>();
  const add = (name: string): void => {
    const module = needs.get(name);
    if (module === undefined) throw new NotRunError(`kernel ${version} has no module ${name}`);
    for (const needed of module.names) if (!order.has(join(folder, needs.get(needed)?.path ?? ""))) add(needed);
    order.add(join(folder, module.path));
  };
  for (const name of names) add(name);
  return [...order];
}

function moduleName(path: string): string {
  return basename(path, ".ko").replaceAll("-", "_");
}

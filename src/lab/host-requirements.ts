// SPDX-License-Identifier: Apache-2.0
import { accessSync, constants, existsSync } from "node:fs";
import { join } from "node:path";
import type { Family } from "../net/ip.ts";
import { LabError } from "./errors.ts";

/** Programs that the laboratory runs, with the Debian package that brings each. */
const PROGRAMS: readonly (readonly [program: string, debianPackage: string])[] = [
  ["unshare", "util-linux"],
  ["nsenter", "util-linux"],
  ["mount", "mount"],
  ["ip", "iproute2"],
  ["nft", "nftables"],
  ["iptables", "iptables"],
  ["kubectl", "kubernetes-client"],
  ["fping", "fping"],
  ["bash", "bash"],
  ["/usr/lib/cni/portmap", "containernetworking-plugins"],
  ["/usr/lib/cni/bandwidth", "containernetworking-plugins"],
];

/** An ordinary user's PATH often lacks the folders where ip, nft and iptables are. */
export function widenPath(path: string | undefined): string {
  const folders = (path ?? "").split(":").filter((folder) => folder !== "");
  return [...new Set([...folders, "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"])].join(":");
}

/** @throws LabError with the exact line that installs what is missing */
export function checkRequirements(path: string, built: readonly string[], families: readonly Family[]): void {
  const missing = PROGRAMS.filter(([program]) => !isInstalled(program, path));
  if (missing.length > 0) {
    const packages = [...new Set(missing.map(([, debianPackage]) => debianPackage))].sort();
    throw new LabError(
      "Missing",
      `Missing: ${missing.map(([program]) => program).join(", ")}. Install with: sudo apt-get install -y ${packages.join(" ")}`,
    );
  }
  if (families.includes(6) && !existsSync("/proc/sys/net/ipv6"))
    throw new LabError("Missing", "This kernel runs without IPv6. Leave it out: npm run lab -- --families ipv4");
  const unbuilt = built.filter((file) => !isInstalled(file, path));
  if (unbuilt.length > 0) throw new LabError("Missing", `Not built: ${unbuilt.join(", ")}. Build with: npm run build`);
}

function isInstalled(program: string, path: string): boolean {
  if (program.startsWith("/")) return isReadable(program, constants.R_OK);
  return path.split(":").some((folder) => isReadable(join(folder, program), constants.X_OK));
}

function isReadable(file: string, mode: number): boolean {
  try {
    accessSync(file, mode);
    return true;
  } catch {
    return false;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type IP, parseIP } from "../../../net/ip.ts";

/** An address that host-local has given. */
export interface Lease {
  readonly network: string;
  readonly ip: IP;
  readonly containerID: string;
  readonly ifName: string;
}

/**
 * Reads one file of host-local: named by its address, with the container's ID and, since 0.7, the interface on a second line.
 *
 * @returns undefined for its other files (`lock`, `last_reserved_ip.0`)
 */
export function parseLease(network: string, name: string, text: string): Lease | undefined {
  let ip: IP;
  try {
    ip = parseIP(name);
  } catch {
    return undefined;
  }
  const [containerID = "", ifName = ""] = text.split("\n").map((line) => line.trim());
  return containerID === "" ? undefined : { network, ip, containerID, ifName: ifName || "eth0" };
}

/** All leases of a data directory of host-local, whose folders are networks. */
export function readLeases(dir: string): readonly Lease[] {
  if (!existsSync(dir)) return [];
  const networks = readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return networks.flatMap(({ name: network }) =>
    readdirSync(join(dir, network)).flatMap(
      (name) => parseLease(network, name, readFileSync(join(dir, network, name), "utf8")) ?? [],
    ),
  );
}

/** The namespace that a runtime has noted of an attachment, in what libcni keeps of each ADD. */
export function cachedSandbox(dir: string, { network, containerID, ifName }: Lease): string | undefined {
  try {
    const text = readFileSync(join(dir, `${network}-${containerID}-${ifName}`), "utf8");
    const { result } = JSON.parse(text) as { result?: { interfaces?: readonly { sandbox?: unknown }[] } };
    const paths = (result?.interfaces ?? []).map(({ sandbox }) => sandbox);
    return paths.find((path): path is string => typeof path === "string" && path !== "");
  } catch {
    return undefined;
  }
}

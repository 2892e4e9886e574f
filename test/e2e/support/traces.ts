// SPDX-License-Identifier: Apache-2.0
import type { Machine } from "./containerd-machine.ts";
import { kubectl } from "./stack.ts";

/** Our record of each attachment, one file each. */
export const ATTACHMENTS = "/var/lib/gingham/attachments";

/** Where a container's network leaves files: records of ours, results that libcni keeps, namespaces. */
const FOLDERS = [ATTACHMENTS, "/var/lib/gingham/pending", "/var/lib/cni", "/run/netns"];

/** Everything of the network that a removed container must not leave behind, as text that two moments can be compared by. */
export async function listTraces(on: Machine): Promise<string> {
  const links = await on.runOk(["ip", "-o", "link", "show"]);
  const names = links.split("\n").map((line) => /^\d+: ([^:@]+)/.exec(line)?.[1] ?? "");
  const routes = (await on.runOk(["ip", "route", "show"]))
    .split("\n")
    .filter((route) => !route.startsWith("blackhole"));
  const [handles, owners] = await Promise.all([
    kubectl(on, ["get", "ipamhandles", "-o", "name"]),
    kubectl(on, ["get", "ipamblocks", "-o", "jsonpath={.items[*].spec.attributes[*].handle_id}"]),
  ]);
  return JSON.stringify(
    { names, routes, handles, owners, taken: await takenOrdinals(on), files: await listFiles(on) },
    undefined,
    2,
  );
}

/** Files that containers' networks have on the machine. A folder that is not there has none. */
export async function listFiles(on: Machine): Promise<readonly string[]> {
  const { stdout } = await on.run(["find", ...FOLDERS, "-type", "f"]);
  return stdout.split("\n").toSorted();
}

/** Addresses that the blocks call taken, as the ordinals' indexes of attributes. */
export async function takenOrdinals(on: Machine): Promise<readonly string[]> {
  const ordinals = await kubectl(on, ["get", "ipamblocks", "-o", "jsonpath={.items[*].spec.allocations[*]}"]);
  return ordinals.split(" ").filter((ordinal) => ordinal !== "" && ordinal !== "null" && ordinal !== "<nil>");
}

// SPDX-License-Identifier: Apache-2.0
import { readdir } from "node:fs/promises";

/**
 * Where containerd and CRI-O keep the namespaces of their pods, so that these are there as long as the pod is. Of a runtime
 * that names them by a process (Docker) they are not found: such a path would be gone with the process.
 */
const NETNS_DIR = "/run/netns";

/** Their paths; none where there is no such directory. */
export async function listNamespaces(dir: string = NETNS_DIR): Promise<readonly string[]> {
  try {
    return (await readdir(dir)).map((name) => `${dir}/${name}`);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}

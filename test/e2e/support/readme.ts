// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./stack.ts";

/** The conflist that README.md shows for Kubernetes, containerd and podman, so that what is shown is what is tested. */
export function readmeConflist(): string {
  return blockOf(/```json\n(\{\n {2}"cniVersion"[\s\S]*?\n\})\n```/);
}

/** What README.md shows of podman's containers.conf: its section `[network]`. */
export function readmePodmanNetwork(): string {
  return blockOf(/```\n(\[network\]\n[\s\S]*?)```/);
}

function blockOf(pattern: RegExp): string {
  const block = pattern.exec(readFileSync(join(ROOT, "README.md"), "utf8"))?.[1];
  if (block === undefined) throw new Error(`README.md has no block like ${pattern}`);
  return block;
}

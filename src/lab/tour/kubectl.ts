// SPDX-License-Identifier: Apache-2.0
import { CommandError } from "../errors.ts";
import type { Lab } from "../lab.ts";

/** @throws CommandError */
export async function runKubectl(lab: Lab, args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await lab.kubectl(args);
  if (exitCode !== 0) throw new CommandError(["kubectl", ...args], exitCode, stderr);
  return stdout;
}

/** CIDR of every block. */
export async function listBlocks(lab: Lab): Promise<readonly string[]> {
  const text = await runKubectl(lab, ["get", "ipamblocks", "-o", "jsonpath={.items[*].spec.cidr}"]);
  return text.split(" ").filter((cidr) => cidr !== "");
}

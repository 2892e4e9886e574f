// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import type { Lab } from "../lab.ts";
import { runKubectl } from "./kubectl.ts";
import type { Probe } from "./probe.ts";

const STATUS_MS = 15_000;

/** The resources that an auditor looks at, printed by the real kubectl. */
export const SHOW_BLOCKS: Probe = {
  title: "who holds which address: kubectl get ippools,ipamblocks,blockaffinities,ipamhandles",
  async run(lab) {
    const pods = lab.pods.length;
    const { tunnelAddresses: tunnels } = lab;
    const addresses = lab.pods.reduce((sum, { ips }) => sum + ips.length, tunnels);
    // Agents count their blocks lazily, at most once in 5 s each, and a newcomer shall see the final numbers.
    const deadline = performance.now() + STATUS_MS;
    while ((await countUsed(lab)) !== addresses && performance.now() < deadline) await sleep(200);
    const table = await runKubectl(lab, ["get", "ippools,ipamblocks,blockaffinities,ipamhandles"]);
    const handles = (await runKubectl(lab, ["get", "ipamhandles", "-o", "name"])).trim().split("\n");
    const used = await countUsed(lab);
    const problems = [
      ...(handles.length === pods + tunnels
        ? []
        : [`${pods} pods and ${tunnels} tunnels have ${handles.length} IPAMHandles; each needs one`]),
      ...(used === addresses
        ? []
        : [`The status of the blocks counts ${used} addresses in use, and pods and tunnels have ${addresses}`]),
    ];
    return { lines: table.trimEnd().split("\n"), problems, summary: `${handles.length} handles` };
  },
};

/** Sum over the status of all blocks. */
async function countUsed(lab: Lab): Promise<number> {
  const used = await runKubectl(lab, ["get", "ipamblocks", "-o", "jsonpath={.items[*].status.used}"]);
  return used.split(" ").reduce((sum, n) => sum + Number(n), 0);
}

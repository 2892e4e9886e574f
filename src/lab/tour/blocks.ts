// SPDX-License-Identifier: Apache-2.0
import { runKubectl } from "./kubectl.ts";
import type { Probe } from "./probe.ts";

/** The resources that an auditor looks at, printed by the real kubectl. */
export const SHOW_BLOCKS: Probe = {
  title: "who holds which address: kubectl get ippools,ipamblocks,blockaffinities,ipamhandles",
  async run(lab) {
    const table = await runKubectl(lab, ["get", "ippools,ipamblocks,blockaffinities,ipamhandles"]);
    const handles = (await runKubectl(lab, ["get", "ipamhandles", "-o", "name"])).trim().split("\n");
    const problems =
      handles.length === lab.pods.length
        ? []
        : [`${lab.pods.length} pods have ${handles.length} IPAMHandles; each needs one`];
    return { lines: table.trimEnd().split("\n"), problems, summary: `${handles.length} handles` };
  },
};

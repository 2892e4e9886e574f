// SPDX-License-Identifier: Apache-2.0
import { runKubectl } from "./kubectl.ts";
import type { Probe } from "./probe.ts";

/** Takes every pod down and looks for what should not have stayed. */
export const REMOVE_PODS: Probe = {
  title: "take all pods down, and look for what stayed",
  async run(lab) {
    const names = lab.pods.map(({ name }) => name);
    await Promise.all(names.map((name) => lab.delPod(name)));
    const handles = (await runKubectl(lab, ["get", "ipamhandles", "-o", "name"])).trim().split("\n").filter(isOfPod);
    const used = await runKubectl(lab, [
      "get",
      "ipamblocks",
      "-o",
      "jsonpath={.items[*].spec.attributes[*].handle_id}",
    ]);
    const holders = used.trim().split(" ").filter(isOfPod);
    const problems = [
      ...(handles.length === 0 ? [] : [`IPAMHandles stayed: ${handles.join(", ")}`]),
      ...(holders.length === 0 ? [] : [`Addresses stayed taken by: ${holders.join(", ")}`]),
    ];
    for (const { name } of lab.nodes) {
      const { stdout } = await lab.exec(name, ["ip", "-o", "link", "show"]);
      const left = stdout.split("\n").flatMap((line) => /^\d+: (cali[^@:]*)/.exec(line)?.[1] ?? []);
      if (left.length > 0) problems.push(`${name} still has the interfaces ${left.join(", ")}`);
    }
    const lines = [`${names.length} pods gone: no interface, no handle and no address of theirs is left`];
    return { lines: problems.length === 0 ? lines : [], problems, summary: "nothing left of removed pods" };
  },
};

/** Nodes keep their tunnel addresses. */
function isOfPod(handle: string): boolean {
  return handle !== "" && !handle.includes("tunnel-addr-");
}

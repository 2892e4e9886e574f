// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { type RemoteLab, startLab } from "../src/lab/remote.ts";
import { podMTU, tunnelByHand, wayTo, wireByHand } from "./by-hand.ts";

/** Where a program runs: on a node or in a pod, behind words that lead into a namespace by hand. */
export interface End {
  readonly target: string;
  readonly enter: readonly string[];
}

/** From one end to the other, whose address it is. */
export interface Path {
  readonly from: End;
  readonly to: End;
  readonly ip: string;
}

/** One way of pods, and the same by hand: veths, routes and, where there is one, the tunnel. */
export interface PathPair {
  readonly name: "on one node" | "across nodes" | "in VXLAN";
  readonly ours: Path;
  readonly byHand: Path;
}

/** Calls `work` with the paths of each of two laboratories, one without encapsulation and one with VXLAN. */
export async function withPodPaths(
  root: string,
  work: (lab: RemoteLab, pairs: readonly PathPair[]) => Promise<void>,
): Promise<void> {
  for (const vxlan of ["Never", "Always"] as const) {
    const lab = await startLab({ root, script: join(root, "src/main/lab.ts"), nodes: 2, pods: 2, vxlan });
    try {
      await work(lab, vxlan === "Never" ? await plainPairs(lab) : await tunnelPairs(lab));
    } finally {
      await lab.stop();
    }
  }
}

async function plainPairs(lab: RemoteLab): Promise<readonly PathPair[]> {
  const [from, near, far] = [
    await lab.addPod({ name: "from", node: "node-1" }),
    await lab.addPod({ name: "near", node: "node-1" }),
    await lab.addPod({ name: "far", node: "node-2" }),
  ];
  const mtuBytes = await podMTU(lab, from.name);
  const hand = (node: string, namespace: string, ip: string) => ({ node, namespace, ip, mtuBytes });
  await wireByHand(lab, hand("node-1", "handA", "10.98.1.2"), { "10.98.2.2": wayTo("node-2") });
  await wireByHand(lab, hand("node-1", "handB", "10.98.1.3"));
  await wireByHand(lab, hand("node-2", "handC", "10.98.2.2"), { "10.98.1.2": wayTo("node-1") });
  const byHand = inNamespace("node-1", "handA");
  return [
    {
      name: "on one node",
      ours: { from: inPod(from.name), to: inPod(near.name), ip: near.ips[0] ?? "" },
      byHand: { from: byHand, to: inNamespace("node-1", "handB"), ip: "10.98.1.3" },
    },
    {
      name: "across nodes",
      ours: { from: inPod(from.name), to: inPod(far.name), ip: far.ips[0] ?? "" },
      byHand: { from: byHand, to: inNamespace("node-2", "handC"), ip: "10.98.2.2" },
    },
  ];
}

async function tunnelPairs(lab: RemoteLab): Promise<readonly PathPair[]> {
  const from = await lab.addPod({ name: "from", node: "node-1" });
  const far = await lab.addPod({ name: "far", node: "node-2" });
  const mtuBytes = await podMTU(lab, from.name);
  const through = await tunnelByHand(lab);
  const hand = (node: string, ip: string) => ({ node, namespace: "hand", ip, mtuBytes });
  await wireByHand(lab, hand("node-1", "10.98.1.2"), { "10.98.2.2": through("node-2") });
  await wireByHand(lab, hand("node-2", "10.98.2.2"), { "10.98.1.2": through("node-1") });
  return [
    {
      name: "in VXLAN",
      ours: { from: inPod(from.name), to: inPod(far.name), ip: far.ips[0] ?? "" },
      byHand: { from: inNamespace("node-1", "hand"), to: inNamespace("node-2", "hand"), ip: "10.98.2.2" },
    },
  ];
}

function inPod(target: string): End {
  return { target, enter: [] };
}

function inNamespace(target: string, namespace: string): End {
  return { target, enter: ["ip", "netns", "exec", namespace] };
}

/** Takes turns, since neighbours in time are compared: the machine's own speed drifts more than the two differ. */
export async function inTurn(
  runs: number,
  { ours, byHand }: PathPair,
  measure: (path: Path) => Promise<number>,
): Promise<{ readonly ours: readonly number[]; readonly byHand: readonly number[] }> {
  const measured = { ours: [] as number[], byHand: [] as number[] };
  for (let run = 0; run < runs; run++) {
    const order = run % 2 === 0 ? (["ours", "byHand"] as const) : (["byHand", "ours"] as const);
    for (const which of order) measured[which].push(await measure(which === "ours" ? ours : byHand));
  }
  return measured;
}

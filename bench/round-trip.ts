// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { type RemoteLab, startLab } from "../src/lab/remote.ts";
import type { BenchResult } from "./report.ts";
import { median } from "./stats.ts";
import { wireByHand } from "./throughput.ts";

const RUNS = 15;
const PINGS = 300;

/** The round trip from pod to pod: on one node, across nodes plain and in VXLAN, and over the same veths routed by hand. */
export async function benchRoundTrip(root: string): Promise<BenchResult> {
  const lab = await startLab({ root, script: join(root, "src/main/lab.ts"), nodes: 2, pods: 2 });
  try {
    const [from, near, far] = await Promise.all([
      lab.addPod({ name: "from", node: "node-1" }),
      lab.addPod({ name: "near", node: "node-1" }),
      lab.addPod({ name: "far", node: "node-2" }),
    ]);
    await wireByHand(lab, "node-1", { own: "10.98.1.2", other: "10.98.2.2", otherNode: "172.30.0.12" });
    await wireByHand(lab, "node-2", { own: "10.98.2.2", other: "10.98.1.2", otherNode: "172.30.0.11" });
    const hand = (): Promise<number> => roundTrip(lab, "node-1", ["ip", "netns", "exec", "hand"], "10.98.2.2");
    const pod = (ip: string) => (): Promise<number> => roundTrip(lab, from.name, [], ip);
    const plain = await inTurn({ oneNode: pod(near.ips[0] ?? ""), across: pod(far.ips[0] ?? ""), byHand: hand });
    const patch = JSON.stringify({ spec: { vxlanMode: "Always" } });
    await lab.kubectl(["patch", "ippool", "default-ipv4-ippool", "--type=merge", "-p", patch]);
    await untilVXLAN(lab);
    const vxlan = await inTurn({ across: pod(far.ips[0] ?? ""), byHand: hand });
    const us = (values: readonly number[]): string => `${(median(values) * 1000).toFixed(0)} µs`;
    return {
      name: "round trip",
      lines: [
        `Round trip of a ping, pod to pod: on one node ${us(plain.oneNode)}, across nodes ${us(plain.across)} (by hand ${us(plain.byHand)}), in VXLAN ${us(vxlan.across)} (by hand, plain, ${us(vxlan.byHand)})`,
      ],
      budgets: [],
      figures: { plain, vxlan },
    };
  } finally {
    await lab.stop();
  }
}

/** Neighbours in time are compared, since the machine's own speed drifts more than they differ. */
async function inTurn<K extends string>(
  ways: Readonly<Record<K, () => Promise<number>>>,
): Promise<Record<K, number[]>> {
  const entries = Object.entries(ways) as [K, () => Promise<number>][];
  const measured = Object.fromEntries(entries.map(([name]) => [name, [] as number[]])) as Record<K, number[]>;
  for (let run = 0; run < RUNS; run++) for (const [name, measure] of entries) measured[name].push(await measure());
  return measured;
}

/** The average of many pings. Units: milliseconds. */
async function roundTrip(lab: RemoteLab, target: string, enter: readonly string[], ip: string): Promise<number> {
  const argv = [...enter, "ping", "-c", String(PINGS), "-i", "0.002", "-q", ip];
  const { stdout } = await lab.exec(target, argv);
  const average = /= [\d.]+\/([\d.]+)\//.exec(stdout)?.[1];
  if (average === undefined || !stdout.includes(" 0% packet loss"))
    throw new Error(`ping ${ip} from ${target}: ${stdout}`);
  return Number(average);
}

async function untilVXLAN(lab: RemoteLab): Promise<void> {
  for (const node of lab.nodes) {
    const script = "until ip route show proto 80 | grep -q vxlan.calico; do sleep 0.1; done";
    await lab.exec(node, ["timeout", "30", "sh", "-c", script]);
  }
}

// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { formatRate } from "../src/lab/rate.ts";
import { type RemoteLab, startLab } from "../src/lab/remote.ts";
import type { BenchResult } from "./report.ts";
import { median } from "./stats.ts";

/** Many short runs: the neighbours of a busy machine disturb some of them, and the median leaves those out. */
const RUNS = 25;
const BYTES = "600M";
const ATTEMPTS = 40;

/** iperf3 from a pod on one node to a pod on another, against the same veths with routes written by hand. */
export async function benchThroughput(root: string): Promise<BenchResult> {
  const lab = await startLab({ root, script: join(root, "src/main/lab.ts"), nodes: 2, pods: 2 });
  try {
    const [server, client] = await Promise.all([
      lab.addPod({ name: "server", node: "node-1" }),
      lab.addPod({ name: "client", node: "node-2" }),
    ]);
    await wireByHand(lab, "node-1", { own: "10.98.1.2", other: "10.98.2.2", otherNode: "172.30.0.12" });
    await wireByHand(lab, "node-2", { own: "10.98.2.2", other: "10.98.1.2", otherNode: "172.30.0.11" });
    const ours: number[] = [];
    const byHand: number[] = [];
    const hand = (target: string) => ({ target, enter: ["ip", "netns", "exec", "hand"] });
    const pod = (target: string) => ({ target, enter: [] });
    const runOurs = async () => ours.push(await measure(lab, pod(server.name), pod(client.name), server.ips[0] ?? ""));
    const runByHand = async () => byHand.push(await measure(lab, hand("node-1"), hand("node-2"), "10.98.1.2"));
    for (let run = 0; run < RUNS; run++) {
      for (const measureOne of run % 2 === 0 ? [runOurs, runByHand] : [runByHand, runOurs]) await measureOne();
    }
    // Neighbours in time are compared, since the machine's own speed drifts more than the two differ.
    const ratio = median(ours.map((rate, i) => rate / (byHand[i] ?? Number.NaN)));
    return {
      name: "throughput",
      lines: [`Pod to pod across nodes: ${formatRate(median(ours))}, by hand ${formatRate(median(byHand))}`],
      budgets: [
        {
          what: "Pod to pod across nodes",
          measured: `${ratio.toFixed(2)} × veths routed by hand`,
          budget: "at least 0.98 ×",
          holds: ratio >= 0.98,
        },
      ],
      figures: { ours, byHand },
    };
  } finally {
    await lab.stop();
  }
}

/** A namespace behind a veth, as people do it in tutorials. */
export async function wireByHand(
  lab: RemoteLab,
  node: string,
  ips: { own: string; other: string; otherNode: string },
): Promise<void> {
  const script = `
    ip netns add hand
    ip link add hand0 type veth peer name eth0 netns hand
    ip link set hand0 up
    ip -n hand addr add ${ips.own}/32 dev eth0
    ip -n hand link set eth0 up
    ip -n hand link set lo up
    ip addr add 169.254.9.1/32 dev hand0
    ip -n hand route add 169.254.9.1 dev eth0 scope link
    ip -n hand route add default via 169.254.9.1
    ip route add ${ips.own} dev hand0
    ip route add ${ips.other} via ${ips.otherNode}`;
  const { exitCode, stderr } = await lab.exec(node, ["sh", "-euc", script]);
  if (exitCode !== 0) throw new Error(`Cannot wire ${node} by hand: ${stderr}`);
}

interface End {
  readonly target: string;
  readonly enter: readonly string[];
}

/** Units: bits a second, as received. */
async function measure(lab: RemoteLab, server: End, client: End, ip: string): Promise<number> {
  const serving = lab.exec(server.target, [...server.enter, "timeout", "30", "iperf3", "-s", "-1"]);
  let said = "";
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { stdout } = await lab.exec(client.target, [...client.enter, "iperf3", "-c", ip, "-n", BYTES, "-J"]);
    const result = JSON.parse(stdout) as { error?: string; end?: { sum_received?: { bits_per_second?: number } } };
    const rate = result.end?.sum_received?.bits_per_second;
    if (rate !== undefined) {
      await serving;
      return rate;
    }
    // The server says nowhere that it listens, so the first attempt may come too early.
    said = result.error ?? stdout;
    await sleep(50);
  }
  throw new Error(`iperf3 to ${ip}: ${said}`);
}

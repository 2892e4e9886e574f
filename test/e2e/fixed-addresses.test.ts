// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import type { RunResult } from "../../src/lab/run.ts";
import type { LabPod } from "../../src/lab/types.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** A StatefulSet's pod that loses its node and comes up on another one, with its address. */

const ROUTE_MS = 40_000;
const DB = { name: "db-1", statefulSet: "db" } as const;

let lab: RemoteLab;
let others: readonly LabPod[];
let fixed: string;

beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: join(ROOT, "src/main/lab.ts"), nodes: 3, pods: 3 });
  others = await lab.listPods();
  // In the block of node-1, whose first addresses its pods have.
  const block = await ok(
    lab.kubectl(["get", "blockaffinities", "-o", "jsonpath={.items[?(@.spec.node=='node-1')].spec.cidr}"]),
  );
  const [network = ""] = block.split("/");
  const at = (n: number): string => network.replace(/\d+$/, (last) => String(Number(last) + n));
  fixed = at(41);
  const labels = {
    "gingham.dev/owner-kind": "StatefulSet",
    "gingham.dev/owner-namespace": "default",
    "gingham.dev/owner-name": "db",
  };
  const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPReservation", metadata: { name: "db", labels } };
  await ok(lab.kubectl(["create", "-f", "-"], JSON.stringify({ ...head, spec: { reservedCIDRs: [`${at(40)}/31`] } })));
});
afterAll(() => lab.stop());

async function ok(result: Promise<RunResult>): Promise<string> {
  const { exitCode, stdout, stderr } = await result;
  if (exitCode !== 0) throw new Error(`exit status ${exitCode}: ${stderr}${stdout}`);
  return stdout;
}

async function waitForPings(): Promise<void> {
  for (const pod of others) {
    const ping = async (): Promise<boolean> =>
      (await lab.exec(pod.name, ["fping", "-q", "-c", "1", "-t", "300", fixed])).exitCode === 0;
    await waitUntil(`pings from ${pod.name} on ${pod.node} to ${fixed}`, ping, ROUTE_MS);
  }
}

describe("a fixed address", () => {
  test("is its pod's, and stays its pod's when the node is lost and comes back", async () => {
    // The reservation is watched: what it says counts a moment later.
    await waitUntil(
      "the reservation to be known",
      async () => {
        const pod = await lab.addPod({ ...DB, node: "node-1" });
        if (pod.ips[0] === fixed) return true;
        await lab.delPod(DB.name);
        return false;
      },
      10_000,
    );
    await waitForPings();

    await lab.killAgent("node-1", "SIGKILL");
    // The DEL on node-1 is only written down; for the API server the pod is deleted.
    await lab.delPod(DB.name);
    const moved = await lab.addPod({ ...DB, node: "node-2" });
    expect(moved.ips).toEqual([fixed]);
    expect(await lab.logs("node-2")).toContain("Address was taken over from an earlier life of its pod");

    await lab.startAgent("node-1");
    await waitForPings();
    // The pending release is worked off, and frees nothing that is another's by now.
    await waitUntil(
      "the DEL to be worked off",
      async () => (await lab.logs("node-1")).includes("A pending release was worked off"),
      ROUTE_MS,
    );
    const block = await ok(lab.kubectl(["get", "ipamblocks", "-o", "json"]));
    const { items } = JSON.parse(block) as {
      items: { spec: { attributes: { secondary: Record<string, string> }[] } }[];
    };
    const owners = items.flatMap(({ spec }) => spec.attributes.map(({ secondary }) => secondary));
    expect(owners.filter(({ pod }) => pod === DB.name).map(({ node }) => node)).toEqual(["node-2"]);
    await waitForPings();
  });
});

// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FAMILIES } from "../../src/lab/families.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import { run } from "../../src/lab/run.ts";
import type { LabPod } from "../../src/lab/types.ts";
import { attachChain, type ChainedPod, hello, ok, startEcho } from "./support/chain.ts";
import { ROOT } from "./support/stack.ts";

/** Dual stack, IPv4 alone and IPv6 alone, side by side on the same nodes. */

const SCRIPT = join(ROOT, "src/main/lab.ts");
const PORT = 7;
const V4 = /^192\.168\.\d+\.\d+$/;
const V6 = /^fd00:10:244:[0-9a-f:]+$/;

let lab: RemoteLab;
/** One of each kind on each node. */
const pods = { dual: [] as LabPod[], ipv4: [] as LabPod[], ipv6: [] as LabPod[] };

beforeAll(async () => {
  lab = await startLab({ root: ROOT, script: SCRIPT, nodes: 2, pods: 0, families: FAMILIES.dual });
  const add = (node: string, kind: string, families?: string): Promise<LabPod> =>
    lab.addPod({
      name: `${kind}-${node}`,
      node,
      ...(families === undefined ? {} : { annotations: { "cni.projectcalico.org/ipFamilies": families } }),
    });
  for (const node of lab.nodes) {
    pods.dual.push(await add(node, "dual"));
    pods.ipv4.push(await add(node, "four", '["IPv4"]'));
    pods.ipv6.push(await add(node, "six", '["IPv6"]'));
  }
});
afterAll(() => lab.stop());

const inPod = (pod: LabPod, ...argv: string[]): Promise<string> => ok(lab.exec(pod.name, argv));

async function hear(from: LabPod, ip: string | undefined): Promise<boolean> {
  return (await lab.exec(from.name, ["fping", "-q", "-c", "2", "-p", "50", "-t", "1000", ip ?? ""])).exitCode === 0;
}

describe("addresses", () => {
  test("are of the families that annotation, or else the configuration, names", () => {
    for (const { ips } of pods.dual) expect(ips).toEqual([expect.stringMatching(V4), expect.stringMatching(V6)]);
    for (const { ips } of pods.ipv4) expect(ips).toEqual([expect.stringMatching(V4)]);
    for (const { ips } of pods.ipv6) expect(ips).toEqual([expect.stringMatching(V6)]);
  });

  test("of both families are on the Node objects", async () => {
    const path = '{.items[*].status.addresses[?(@.type=="InternalIP")].address}';
    const found = await ok(lab.kubectl(["get", "nodes", "-o", `jsonpath=${path}`]));
    expect(found.split(" ").sort()).toEqual(["172.30.0.11", "172.30.0.12", "fd00:172:30::11", "fd00:172:30::12"]);
  });

  test("of a family that a pod does not have are not in it, nor a route of it", async () => {
    for (const pod of pods.ipv6) {
      expect(await inPod(pod, "ip", "-4", "-o", "address", "show", "dev", "eth0")).toBe("");
      expect(await inPod(pod, "ip", "-4", "route")).toBe("");
    }
    for (const pod of pods.ipv4) {
      expect(await inPod(pod, "ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "global")).toBe("");
      expect(await inPod(pod, "ip", "-6", "route", "show", "default")).toBe("");
    }
  });

  test("wait for no duplicate address detection, in the pod or on its host's end", async () => {
    for (const pod of [...pods.dual, ...pods.ipv6]) {
      expect(await inPod(pod, "ip", "-6", "-o", "address", "show", "tentative")).toBe("");
      expect(await inPod(pod, "cat", "/proc/sys/net/ipv6/conf/eth0/accept_dad")).toBe("0\n");
      expect(await inPod(pod, "ip", "-6", "route", "show", "default")).toContain(
        "via fe80::ecee:eeff:feee:eeee dev eth0",
      );
    }
    for (const node of lab.nodes) {
      const script = "for f in /proc/sys/net/ipv6/conf/cali*; do cat $f/accept_dad $f/proxy_ndp $f/accept_ra; done";
      const values = (await ok(lab.exec(node, ["sh", "-c", script]))).trim().split("\n");
      // Three pods; the IPv4 one's end is not told about proxies.
      expect(
        values
          .join("")
          .match(/.../g)
          ?.filter((triple) => triple === "010"),
      ).toHaveLength(2);
      expect(values.filter((_, i) => i % 3 === 2)).toEqual(["0", "0", "0"]);
    }
  });
});

describe("pods", () => {
  test("reach each other in every family that both have, on the same node and on another", async () => {
    for (const [family, kinds] of [
      [4, [pods.dual, pods.ipv4]],
      [6, [pods.dual, pods.ipv6]],
    ] as const) {
      const all = kinds.flat();
      for (const from of all) {
        for (const to of all) {
          const ip = to.ips.find((candidate) => candidate.includes(":") === (family === 6));
          expect(await hear(from, ip), `${from.name} to ${to.name} at ${ip}`).toBe(true);
        }
      }
    }
  });

  test("of one family can be asked for by the configuration, too", async () => {
    const ipam = { type: "gingham-ipam", assign_ipv4: "false", assign_ipv6: "true" };
    const six: ChainedPod = await attachChain(lab, {
      node: "node-2",
      name: "conf-six",
      plugins: [{ type: "gingham", ipam }],
    });
    expect(six.ips).toEqual([expect.stringMatching(V6)]);
    await startEcho(six, PORT, 20);
    const [from] = pods.dual;
    if (from === undefined) throw new Error("No dual-stack pod");
    for (const protocol of ["tcp", "udp"] as const) {
      const to = { protocol, ip: six.ips[0] ?? "", port: PORT };
      expect(await hello((...argv) => lab.exec(from.name, argv), to)).toBe(from.ips[1]);
    }
    await six.check();
    await six.del();
  });

  test("keep their addresses in both families when the agent is killed, and lose no packet", async () => {
    const [from, to] = [pods.dual[0], pods.dual[1]];
    const pinging = lab.exec(from?.name ?? "", [
      "fping",
      "-q",
      "-c",
      "150",
      "-p",
      "10",
      "-t",
      "1000",
      ...(to?.ips ?? []),
    ]);
    await lab.killAgent("node-1", "SIGKILL");
    await lab.startAgent("node-1");
    const { stderr } = await pinging;
    expect(stderr.match(/xmt\/rcv\/%loss = 150\/150\/0%/g)).toHaveLength(2);
  });
});

test("a cluster without IPv4 passes the whole tour, and leaves nothing", async () => {
  const argv = [process.execPath, SCRIPT, "--once", "--nodes", "2", "--pods", "4", "--families", "ipv6"];
  const { exitCode, stdout, stderr } = await run(argv);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout).toContain("All well: 2 nodes, 4 pods, 4 handles, 2 blocks routed on 2 nodes, 16 pings, 0 lost");
  expect(stdout).not.toMatch(/192\.168\.|172\.30\./);
});

// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FAMILIES } from "../../src/lab/families.ts";
import type { Rate } from "../../src/lab/rate.ts";
import { type RemoteLab, startLab } from "../../src/lab/remote.ts";
import { attachChain, type ChainedPod, DUAL, ok, requirePrograms } from "./support/chain.ts";
import { waitUntil } from "./support/containerd-machine.ts";
import { ROOT } from "./support/stack.ts";

/** Limits by Debian's bandwidth after gingham, measured between nodes. */

const SCRIPT = join(ROOT, "src/main/lab.ts");
const ENDPOINT = [process.execPath, SCRIPT, "internal", "endpoint"];
/** Units: bits a second, and bits. The bursts are small, so that seconds of transfer show the rates. */
const LIMITS = { ingressRate: 20e6, ingressBurst: 1.6e6, egressRate: 12e6, egressBurst: 1.6e6 };
const SKIP_MS = 500;
const DURATION_MS = 2_500;
/** Headers take some of a limit; the rest is room for a busy machine. */
const TOLERANCE = { least: 0.75, most: 1.25 };

let lab: RemoteLab;
let limited: ChainedPod;
let free: ChainedPod;
let nextPort = 5201;

beforeAll(async () => {
  await requirePrograms({ "/usr/lib/cni/bandwidth": "containernetworking-plugins", ss: "iproute2" });
  lab = await startLab({ root: ROOT, script: SCRIPT, nodes: 2, pods: 0, families: FAMILIES.dual });
  const plugins = [DUAL, { type: "bandwidth", capabilities: { bandwidth: true } }];
  limited = await attachChain(lab, { node: "node-1", name: "limited", plugins, capabilityArgs: { bandwidth: LIMITS } });
  free = await attachChain(lab, { node: "node-2", name: "free", plugins });
});
afterAll(() => lab.stop());

/** Sends as much as goes for a while. Units: bits a second. */
async function measure(from: ChainedPod, to: ChainedPod, ip: string, durationMs = DURATION_MS): Promise<number> {
  const port = nextPort++;
  const sink = to.exec(...ENDPOINT, "sink", String(port), String(SKIP_MS));
  sink.catch(() => {});
  const listens = async (): Promise<boolean> => (await to.exec("ss", "-Hltn", `sport = ${port}`)).stdout !== "";
  await waitUntil("the sink", listens, 10_000);
  await ok(from.exec(...ENDPOINT, "source", ip, String(port), String(durationMs)));
  const lines = (await ok(sink)).trim().split("\n");
  // Written by `receive` of src/lab/endpoint.ts.
  return (JSON.parse(lines.at(-1) ?? "") as Rate).bitsPerSecond;
}

describe.each([4, 6] as const)("bandwidth over IPv%i", (family) => {
  const ipOf = ({ ips }: ChainedPod): string => ips[family === 4 ? 0 : 1] ?? "";

  test("limits what the pod receives", async () => {
    const share = (await measure(free, limited, ipOf(limited))) / LIMITS.ingressRate;
    expect(share).toBeGreaterThan(TOLERANCE.least);
    expect(share).toBeLessThan(TOLERANCE.most);
  });

  test("limits what the pod sends", async () => {
    const share = (await measure(limited, free, ipOf(free))) / LIMITS.egressRate;
    expect(share).toBeGreaterThan(TOLERANCE.least);
    expect(share).toBeLessThan(TOLERANCE.most);
  });
});

describe("bandwidth", () => {
  test("passes CHECK", async () => {
    await limited.check();
  });

  test("is what limits: another pod of the same node sends ten times as much", async () => {
    const other = await attachChain(lab, { node: "node-1", name: "other", plugins: [DUAL] });
    expect(await measure(other, free, free.ips[0] ?? "", 1_500)).toBeGreaterThan(10 * LIMITS.egressRate);
    await other.del();
  });

  test("leaves no interface behind", async () => {
    await limited.del();
    await free.del();
    const links = await ok(lab.exec("node-1", ["ip", "-o", "link"]));
    expect(links.split("\n").filter((line) => /: (?:cali|bwp)/.test(line))).toEqual([]);
  });
});

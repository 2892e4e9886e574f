// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { TableChange } from "../../src/felix/nft/ports.ts";
import type { KernelRoute } from "../../src/felix/ports.ts";
import { parseCIDR } from "../../src/net/cidr.ts";
import { parseIP } from "../../src/net/ip.ts";
import { KernelWorkerError, NetlinkError, WiringError } from "../../src/netlink/errors.ts";
import type { Kernel } from "../../src/netlink/kernel.ts";
import { createKernel } from "../../src/netlink/worker.ts";
import { enterHost, ip, Netns, planFor, rows, sh } from "./netlink-fixture.ts";

let host: Netns;
let kernel: Kernel;
const fatal: Error[] = [];

beforeAll(async () => {
  host = enterHost("work-host");
  kernel = await createKernel({ onFatal: (error) => fatal.push(error) });
});

afterAll(async () => {
  await kernel.close();
  host[Symbol.dispose]();
  expect(fatal).toEqual([]);
});

function blackhole(cidr: string): KernelRoute {
  return { dst: parseCIDR(cidr), type: "blackhole", metric: 0, protocol: 80, onlink: false, scope: "universe" };
}

describe("createKernel()", () => {
  test("keeps the thread that deletes only while there is something to delete", async () => {
    const isThere = (): boolean =>
      sh("sh", "-c", "cat /proc/$PPID/task/*/comm 2>/dev/null || true").includes("gingham-deletio");
    await using stack = new AsyncDisposableStack();
    const short = await createKernel({ onFatal: (error) => fatal.push(error), deletionIdleMs: 200 });
    stack.defer(() => short.close());
    await vi.waitUntil(() => !isThere(), { timeout: 10_000 });
    for (let round = 1; round <= 2; round++) {
      using pod = new Netns("work-short");
      const { hostIfIndex } = await short.wiring.wire(planFor(pod, 1));
      expect(await short.wiring.unwire({ hostIface: planFor(pod, 1).hostIface, hostIfIndex })).toBe(true);
      expect(isThere()).toBe(true);
      await vi.waitUntil(() => !isThere(), { timeout: 10_000 });
    }
  });

  test("a deletion that is under way when everything closes is finished", async () => {
    using pod = new Netns("work-closing");
    const closing = await createKernel({ onFatal: (error) => fatal.push(error) });
    const { hostIfIndex } = await closing.wiring.wire(planFor(pod, 1));
    const deleted = closing.wiring.unwire({ hostIface: planFor(pod, 1).hostIface, hostIfIndex });
    await closing.close();
    await expect(deleted).resolves.toBe(true);
    await expect(closing.conntrack.flush([])).rejects.toBeInstanceOf(KernelWorkerError);
  });

  test("wires and unwires pods through its threads", async () => {
    using a = new Netns("work-a");
    using b = new Netns("work-b");
    const plans = [planFor(a, 1), planFor(b, 2)];
    const wired = await Promise.all(plans.map((plan) => kernel.wiring.wire(plan)));
    expect(a.pings("10.65.0.2") && b.pings("fd00:65::1")).toBe(true);
    const { netns, contIface, hostIface, ips } = planFor(a, 1);
    const facts = await kernel.wiring.inspect({ netns, contIface, hostIface, ips });
    expect(facts.hostLink?.ifIndex).toBe(wired[0]?.hostIfIndex);
    expect(facts.hostRoutes.map(({ ip: address, route }) => [address, route?.dev])).toEqual(
      ips.map((i) => [i, hostIface]),
    );
    const identity = await kernel.wiring.identifyNetns(b.path);
    const [first, second] = plans.map(({ hostIface }, i) => ({ hostIface, hostIfIndex: wired[i]?.hostIfIndex ?? 0 }));
    const outcomes = await Promise.all([
      kernel.wiring.unwire(first ?? { hostIface: "", hostIfIndex: 0 }),
      kernel.wiring.unwireFromNetns({ netns: b.path, identity, contIface: "eth0", hostIface: second?.hostIface ?? "" }),
    ]);
    expect(outcomes).toEqual([true, true]);
    expect(rows("ip", "route show proto 80")).toEqual([]);
  });

  test("errors cross as the class they were, with their cause", async () => {
    using pod = new Netns("work-pod");
    const gone = kernel.wiring.wire({ ...planFor(pod, 1), netns: "/run/netns/netl-missing" });
    await expect(gone).rejects.toBeInstanceOf(WiringError);
    await expect(gone).rejects.toMatchObject({ code: "NetnsGone" });
    const routes = [parseCIDR("0.0.0.0/0"), parseCIDR("0.0.0.0/0")];
    const failed = kernel.wiring.wire({ ...planFor(pod, 1), routes });
    await expect(failed).rejects.toMatchObject({ code: "Kernel", cause: { errnoName: "EEXIST" } });
    await expect(
      failed.catch((error: unknown) => (error instanceof Error ? error.cause : error)),
    ).resolves.toBeInstanceOf(NetlinkError);
  });

  test("programs 10,000 routes, each bad one with its own error", async () => {
    const good = Array.from({ length: 10_000 }, (_, i) => blackhole(`10.${100 + (i >> 8)}.${i & 255}.0/26`));
    const bad: KernelRoute = {
      ...blackhole("10.0.0.0/26"),
      type: "unicast",
      gateway: parseIP("203.0.113.1"),
      ifIndex: 9999,
    };
    const results = await kernel.routes.replaceRoutes([...good.slice(0, 3), bad, ...good.slice(3)]);
    expect(results.filter(({ error }) => error !== undefined)).toEqual([results[3]]);
    expect(results[3]?.error).toBeInstanceOf(NetlinkError);
    expect(results[3]?.route).toBe(bad);
    const listed = await kernel.routes.listRoutes(4);
    expect(listed.filter(({ protocol }) => protocol === 80)).toHaveLength(good.length);
    expect(listed.find(({ dst }) => dst.network === good[7]?.dst.network)).toEqual(good[7]);
    expect((await kernel.routes.deleteRoutes([...good, ...good])).every(({ error }) => error === undefined)).toBe(true);
    expect(rows("ip", "route show proto 80")).toEqual([]);
  });

  test("lists links and addresses", async () => {
    const links = await kernel.routes.listLinks();
    const up0 = links.find(({ name }) => name === "up0");
    expect(up0).toMatchObject({ up: true, mtuBytes: 1500 });
    const addrs = (await kernel.routes.listAddrs()).filter(({ ifIndex }) => ifIndex === up0?.ifIndex);
    expect(addrs.map(({ ip: address }) => address)).toEqual(
      expect.arrayContaining([parseIP("192.0.2.1"), parseIP("2001:db8::1")]),
    );
  });

  test("watch() tells what others change, and not what was changed through it", async () => {
    const seen: string[] = [];
    let wake = (): void => {};
    const next = (): Promise<void> => new Promise((resolve) => (wake = resolve));
    const stop = kernel.routes.watch(({ kind }) => {
      seen.push(kind);
      wake();
    });
    await kernel.routes.replaceRoutes([blackhole("10.0.0.0/26")]);
    await kernel.routes.listLinks();
    const first = next();
    ip("link set up1 alias watched");
    await first;
    expect(seen).toEqual(["link"]);
    const second = next();
    ip("route delete blackhole 10.0.0.0/26");
    await second;
    expect(seen).toEqual(["link", "route"]);
    stop();
  });

  test("tells who changed the table inet gingham, and of no other", async () => {
    const { promise, resolve } = Promise.withResolvers<TableChange>();
    const stop = kernel.tables.watch(resolve);
    // The worker answers in order, so it listens by now.
    await kernel.routes.listLinks();
    sh("nft", "add table ip gingham; add table inet other; add chain inet other c");
    const { pid } = spawnSync("nft", ["add table inet gingham; add chain inet gingham c"]);
    expect(await promise).toEqual({ damage: new Map([[pid, []]]), isLost: false });
    stop();
  });

  test.each([
    ["add rule inet gingham c accept", ["rule of chain c unknown"]],
    ["flush chain inet gingham c", ["rule of chain c missing"]],
    ["delete element inet gingham s { 10.0.0.1 }", ["element of set s missing"]],
    ["delete set inet gingham s", ["set s missing"]],
    ["flush chain inet gingham c; delete chain inet gingham c", ["rule of chain c missing", "chain c missing"]],
    ["flush ruleset", ["table missing"]],
    ["add counter inet gingham strange", []],
    ["add element inet gingham s { 10.0.0.2 }", []],
  ])("tells what is certainly wrong with it after: %s", async (script, what) => {
    sh(
      "nft",
      "table inet gingham { set s { type ipv4_addr; elements = { 10.0.0.1 }; }; chain c { tcp dport { 1, 2 } counter; }; }",
    );
    const { promise, resolve } = Promise.withResolvers<TableChange>();
    const stop = kernel.tables.watch(resolve);
    await kernel.routes.listLinks();
    const { pid } = spawnSync("nft", [script]);
    expect(await promise).toEqual({ damage: new Map([[pid, what]]), isLost: false });
    stop();
    sh("nft", "flush ruleset");
  });
});

describe("a worker that dies", () => {
  const script = (body: string): URL =>
    new URL(
      `data:text/javascript,${encodeURIComponent(`
        import { parentPort } from "node:worker_threads";
        const ready = () => parentPort.postMessage({ kind: "ready" });
        ${body}`)}`,
    );

  test("rejects its calls and tells the process", async () => {
    const told: Error[] = [];
    const dying = await createKernel({
      onFatal: (error) => told.push(error),
      workerURL: script(`ready(); parentPort.on("message", () => process.exit(71));`),
    });
    await expect(dying.routes.listLinks()).rejects.toBeInstanceOf(KernelWorkerError);
    await expect(dying.routes.listLinks()).rejects.toThrow("exited with code 71");
    expect(told).toHaveLength(1);
    await dying.close();
    expect(told).toHaveLength(1);
  });

  test("rejects createKernel() when it does not start", async () => {
    const start = createKernel({ onFatal: () => {}, workerURL: script(`throw new Error("no");`) });
    await expect(start).rejects.toBeInstanceOf(KernelWorkerError);
  });
});

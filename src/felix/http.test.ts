// SPDX-License-Identifier: Apache-2.0
import { networkInterfaces } from "node:os";
import { afterEach, describe, expect, test } from "vitest";
import { FakeClock } from "../lib/fake-clock.ts";
import { formatIP, type IP } from "../net/ip.ts";
import { ListenError } from "./errors.ts";
import { type FelixStatus, felixHealth } from "./health.ts";
import { type Listener, serveHealth, serveMetrics } from "./http.ts";
import { createMetrics } from "./metrics.ts";

const HERE = { host: "127.0.0.1", port: 0 };
let listener: Listener | undefined;

afterEach(async () => await listener?.close());

async function get(path: string): Promise<{ status: number; text: string }> {
  const answer = await fetch(`${listener?.url}${path}`);
  return { status: answer.status, text: await answer.text() };
}

describe("serveHealth()", () => {
  test("answers 200 or 503 with the checks", async () => {
    const clock = new FakeClock();
    let status: FelixStatus = {
      lastBeatMs: clock.nowMs(),
      turnStartedMs: undefined,
      waitingFor: ["pools"],
      isMonitorUp: true,
      isFirstApplyDone: false,
      failure: { reason: "EPERM", sinceMs: clock.nowMs() - 5000 },
    };
    listener = await serveHealth(
      felixHealth(clock, () => status),
      HERE,
    );
    expect((await get("/liveness")).status).toBe(200);
    const waiting = await get("/readiness");
    expect(waiting.status).toBe(503);
    expect(JSON.parse(waiting.text)).toEqual({
      ok: false,
      checks: {
        datastore: { ok: false, detail: "waiting for pools" },
        firstApply: { ok: false, detail: "not done yet; the last try failed: EPERM" },
        apply: { ok: true, detail: "failing for 5.0 s: EPERM" },
        monitor: { ok: true, detail: "listening" },
        nodeAddress: { ok: true, detail: "certain" },
      },
    });
    status = { ...status, waitingFor: [], isFirstApplyDone: true };
    expect((await get("/readiness")).status).toBe(200);
    await clock.advance(61_000);
    expect((await get("/liveness")).status).toBe(503);
    expect((await get("/")).status).toBe(404);
  });
});

describe("listening", () => {
  test("fails with ListenError when the port is taken", async () => {
    const metrics = createMetrics("node-a");
    listener = await serveMetrics(metrics, HERE);
    const port = Number(new URL(listener.url).port);
    await expect(serveMetrics(metrics, { ...HERE, port })).rejects.toBeInstanceOf(ListenError);
  });
});

describe("/history/", () => {
  const history = {
    read: async (ip: IP) => ({ address: formatIP(ip), sequenceNumber: 1787395200123456789n }),
    isRemote: false,
  };
  const metrics = { contentType: "text/plain", text: async () => "x" };

  test("answers for one address, with exact numbers", async () => {
    listener = await serveMetrics(metrics, HERE, history);
    const answer = { status: 200, text: '{"address":"fd00::5","sequenceNumber":1787395200123456789}' };
    expect(await get("/history/fd00::5")).toEqual(answer);
    expect(await get("/history/fd00%3A:5?x=y")).toEqual(answer);
    expect((await get("/history/")).status).toBe(400);
    expect((await get("/history/10.0.0.500")).status).toBe(400);
    expect((await get("/history")).status).toBe(404);
    expect((await get("/history/%")).status).toBe(500);
    expect((await get("/metrics/x")).status).toBe(404);
  });

  test("refuses callers of other machines unless it is told to answer them", async () => {
    const [address] = Object.values(networkInterfaces())
      .flat()
      .filter((of) => of?.internal === false && of.family === "IPv4");
    if (address === undefined) throw new Error("This test needs an IPv4 address besides 127.0.0.1");
    for (const [isRemote, status] of [
      [false, 403],
      [true, 200],
    ] as const) {
      listener = await serveMetrics(metrics, { host: "0.0.0.0", port: 0 }, { ...history, isRemote });
      const { port } = new URL(listener.url);
      // From its own address to its own address: as far as the socket tells, not from loopback.
      expect((await fetch(`http://${address.address}:${port}/history/10.0.0.5`)).status).toBe(status);
      expect((await fetch(`http://127.0.0.1:${port}/history/10.0.0.5`)).status).toBe(200);
      await listener.close();
    }
  });

  test("answers few at once", async () => {
    const gate = Promise.withResolvers<object>();
    listener = await serveMetrics(metrics, HERE, { read: () => gate.promise, isRemote: false });
    const waiting = [1, 2, 3, 4].map((n) => get(`/history/10.0.0.${n}`));
    await expect.poll(async () => (await get("/history/10.0.0.9")).status).toBe(503);
    gate.resolve({});
    expect((await Promise.all(waiting)).every(({ status }) => status === 200 || status === 503)).toBe(true);
    expect((await get("/history/10.0.0.9")).status).toBe(200);
  });

  test("is not there without a source", async () => {
    listener = await serveMetrics(metrics, HERE);
    expect((await get("/history/10.0.0.5")).status).toBe(404);
  });
});

describe("serveMetrics()", () => {
  test("answers in Prometheus' format under Calico's names", async () => {
    const metrics = createMetrics("node-a");
    metrics.cniRequest("ADD", 0, 12);
    metrics.cniRequest("<script>", 4, 1);
    metrics.felix.datastoreResyncStarted();
    const counts = { updated: 3, deleted: 1, failed: 1, restored: 2, replacedForeign: 0 };
    metrics.felix.turn({ durationMs: 5, resyncMs: 2, ...counts });
    metrics.felix.settingsRestored(2);
    metrics.felix.turnFailed();
    const gauges = {
      routes: 9,
      tunnelEntries: 4,
      podMTUBytes: 1450,
      pendingRoutes: 1,
      hosts: 4,
      localEndpoints: 2,
      isInSync: true,
    };
    metrics.felix.gauges({ ...gauges, findings: new Map([["UnknownNode", 1]]) });
    metrics.felix.gauges({ ...gauges, findings: new Map([["RouteWaits", 2]]) });
    listener = await serveMetrics(metrics, HERE);
    const { status, text } = await get("/metrics");
    expect(status).toBe(200);
    for (const line of [
      'felix_host{host="node-a"} 1',
      "felix_route_table_num_routes 9",
      "felix_int_dataplane_apply_time_seconds_count 1",
      "felix_int_dataplane_failures 2",
      "felix_resyncs_started 1",
      "gingham_link_settings_restored_total 2",
      "felix_resync_state 3",
      "felix_cluster_num_hosts 4",
      "felix_active_local_endpoints 2",
      "gingham_routes_restored_total 2",
      'gingham_route_changes_total{op="updated"} 3',
      'gingham_findings{code="RouteWaits"} 2',
      'gingham_cni_requests_total{command="ADD",code="0"} 1',
      'gingham_cni_requests_total{command="other",code="4"} 1',
    ]) {
      expect(text).toContain(`${line}\n`);
    }
    expect(text).not.toContain("UnknownNode");
    expect(text).toMatch(/process_resident_memory_bytes \d+/);
  });
});

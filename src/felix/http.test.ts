// SPDX-License-Identifier: Apache-2.0
import { afterEach, describe, expect, test } from "vitest";
import { FakeClock } from "../lib/fake-clock.ts";
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
      lastError: "EPERM",
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
        monitor: { ok: true, detail: "listening" },
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

describe("serveMetrics()", () => {
  test("answers in Prometheus' format under Calico's names", async () => {
    const metrics = createMetrics("node-a");
    metrics.cniRequest("ADD", 0, 12);
    metrics.cniRequest("<script>", 4, 1);
    metrics.felix.datastoreResyncStarted();
    const counts = { updated: 3, deleted: 1, failed: 1, restored: 2, replacedForeign: 0 };
    metrics.felix.turn({ durationMs: 5, resyncMs: 2, ...counts });
    metrics.felix.turnFailed();
    const gauges = { routes: 9, pendingRoutes: 1, hosts: 4, localEndpoints: 2, isInSync: true };
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

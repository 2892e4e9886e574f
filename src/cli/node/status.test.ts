// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { NodeReport } from "../../felix/status.ts";
import { MemoryClient } from "../../kube/memory-client.ts";
import { FakeClock } from "../../lib/fake-clock.ts";
import { runGingham } from "../fake-terminal.ts";
import { styleOf } from "../output/style.ts";
import { isAgentRunning } from "./agent-socket.ts";
import { renderStatus } from "./status-text.ts";

const NOW = Date.UTC(2026, 0, 1, 12);

const QUIET: NodeReport = {
  node: "node-a",
  pid: 42,
  startedMs: NOW - 300_000,
  readiness: { ok: true, checks: { datastore: { ok: true, detail: "in sync" } } },
  addresses: [{ address: "192.0.2.1/24", method: "kubernetes-internal-ip", link: "eth0" }],
  mtu: { hostBytes: 1500, podBytes: 1450 },
  blocks: [{ cidr: "10.0.0.0/26", used: 3, free: 61, borrowed: 0 }],
  routes: { wanted: { workload: 3, blackhole: 1, remote: 2, ipip: 0, vxlan: 0 }, inKernel: 7, pending: 0 },
  tunnels: [],
  repairs: { total: 0, recent: [] },
  errors: { total: 0, recent: [] },
  findings: [],
};

const BUSY: NodeReport = {
  ...QUIET,
  readiness: { ok: false, checks: { nodeAddress: { ok: false, detail: "Node node-b has it, too" } } },
  tunnels: [
    { device: "vxlan.calico", link: { isUp: true, mtuBytes: 1450, addresses: ["10.0.0.1/32"] }, peers: 2 },
    { device: "vxlan-v6.calico", peers: 0 },
  ],
  repairs: { total: 31, recent: [{ atMs: NOW, what: "route blackhole 10.0.0.0/26 proto 80", times: 31 }] },
  errors: { total: 1, recent: [{ atMs: NOW, what: "EPERM" }] },
  findings: [{ code: "DuplicateNodeAddress", subject: "192.0.2.1", message: "Node node-b has it, too" }],
};

describe("renderStatus()", () => {
  test("a node where all is well", () => {
    expect(renderStatus(QUIET, NOW, styleOf(false))).toMatchInlineSnapshot(`
      "Node      node-a
      Agent     ready, process 42, up for 5 min
      Address   192.0.2.1/24 on eth0 (kubernetes-internal-ip)
      MTU       1500 between nodes, 1450 for pods

      BLOCK         USED   FREE   BORROWED
      10.0.0.0/26      3     61          0

      ROUTES                                  COUNT
      to pods of this node                        3
      blackhole, for its own blocks               1
      to blocks of other nodes                    2
      to blocks of other nodes, in IP-in-IP       0
      to blocks of other nodes, in VXLAN          0
      in the kernel                               7
      not in the kernel yet                       0

      No findings.
      "
    `);
  });

  test("a node with everything", () => {
    expect(renderStatus(BUSY, NOW, styleOf(false))).toMatchInlineSnapshot(`
      "Node            node-a
      Agent           not ready, process 42, up for 5 min
        nodeAddress   Node node-b has it, too
      Address         192.0.2.1/24 on eth0 (kubernetes-internal-ip)
      MTU             1500 between nodes, 1450 for pods

      BLOCK         USED   FREE   BORROWED
      10.0.0.0/26      3     61          0

      ROUTES                                  COUNT
      to pods of this node                        3
      blackhole, for its own blocks               1
      to blocks of other nodes                    2
      to blocks of other nodes, in IP-in-IP       0
      to blocks of other nodes, in VXLAN          0
      in the kernel                               7
      not in the kernel yet                       0

      TUNNEL            STATE      MTU   ADDRESSES     PEERS
      vxlan.calico      up        1450   10.0.0.1/32       2
      vxlan-v6.calico   missing      -   -                 0

      REPAIRED                   31 SINCE THE START
      2026-01-01T12:00:00.000Z   route blackhole 10.0.0.0/26 proto 80 (31 times)

      ERROR                      1 SINCE THE START
      2026-01-01T12:00:00.000Z   EPERM

      FINDING                WHAT, AND WHAT TO DO
      DuplicateNodeAddress   Node node-b has it, too
      "
    `);
  });
});

describe("gingham node status", () => {
  let folder: string;
  let server: Server | undefined;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "gingham-status-"));
  });
  afterEach(() => {
    server?.close();
    server = undefined;
    rmSync(folder, { recursive: true, force: true });
  });

  const socket = (): string => join(folder, "agent.sock");

  async function serve(status: number, body: string): Promise<void> {
    server = createServer((request, response) => {
      expect([request.method, request.url]).toEqual(["GET", "/status"]);
      response.writeHead(status).end(body);
    }).listen(socket());
    await once(server, "listening");
  }

  const run = (more = "") =>
    runGingham(`node status --socket ${socket()}${more}`, { client: new MemoryClient(), clock: new FakeClock() });

  test("asks the agent, and ends with 0 or 1 as it is ready or not", async () => {
    await serve(200, JSON.stringify(QUIET));
    expect(await run()).toMatchObject({ status: 0, stderr: "" });
    const { stdout } = await run(" -o json");
    expect(JSON.parse(stdout)).toEqual(QUIET);
    server?.close();
    await serve(200, JSON.stringify(BUSY));
    expect(await run()).toMatchObject({ status: 1 });
  });

  test("says why it has no answer", async () => {
    const { status, stderr } = await run();
    expect(status).toBe(1);
    expect(stderr).toContain(`No agent answers at ${socket()} (ENOENT): is it running`);
    expect(await isAgentRunning(socket())).toBe(false);
    await serve(404, "{}");
    expect((await run()).stderr).toContain("answers 404: it may be of another version");
    expect(await isAgentRunning(socket())).toBe(true);
  });
});

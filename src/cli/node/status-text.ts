// SPDX-License-Identifier: Apache-2.0
import type { EventReport } from "../../felix/recent.ts";
import type { NodeReport, RouteKind } from "../../felix/status.ts";
import type { Style } from "../output/style.ts";
import { renderFacts, renderTable } from "../output/table.ts";

const KINDS: Readonly<Record<RouteKind, string>> = {
  workload: "to pods of this node",
  blackhole: "blackhole, for its own blocks",
  remote: "to blocks of other nodes",
  ipip: "to blocks of other nodes, in IP-in-IP",
  vxlan: "to blocks of other nodes, in VXLAN",
};

/** What `gingham node status` prints. Sections without content are left out, findings and readiness never. */
export function renderStatus(report: NodeReport, nowMs: number, style: Style): string {
  const { node, pid, startedMs, readiness, addresses, mtu, blocks, routes, tunnels, repairs, errors, findings } =
    report;
  const failing = Object.entries(readiness.checks).filter(([, { ok }]) => !ok);
  const ready = readiness.ok ? style.good("ready") : style.bad("not ready");
  const sections = [
    renderFacts([
      ["Node", node],
      ["Agent", `${ready}, process ${pid}, up for ${duration(nowMs - startedMs)}`],
      ...failing.map(([name, { detail }]) => [`  ${name}`, style.bad(detail)] as const),
      ...addresses.map(
        ({ address, method, link }) =>
          ["Address", `${address} ${link === undefined ? "on no link" : `on ${link}`} (${method})`] as const,
      ),
      ["MTU", `${mtu.hostBytes} between nodes, ${mtu.podBytes} for pods`],
    ]),
    renderTable<NodeReport["blocks"][number]>(
      [
        { title: "BLOCK", text: ({ cidr }) => cidr },
        { title: "USED", text: ({ used }) => String(used), align: "right" },
        { title: "FREE", text: ({ free }) => String(free), align: "right" },
        { title: "BORROWED", text: ({ borrowed }) => String(borrowed), align: "right" },
      ],
      blocks,
    ),
    renderTable<readonly [string, number]>(
      [
        { title: "ROUTES", text: ([kind]) => kind },
        { title: "COUNT", text: ([, count]) => String(count), align: "right" },
      ],
      [
        ...(Object.keys(KINDS) as RouteKind[]).map((kind) => [KINDS[kind], routes.wanted[kind] ?? 0] as const),
        ["in the kernel", routes.inKernel] as const,
        ["not in the kernel yet", routes.pending] as const,
      ],
    ),
    tunnels.length === 0
      ? ""
      : renderTable<NodeReport["tunnels"][number]>(
          [
            { title: "TUNNEL", text: ({ device }) => device },
            { title: "STATE", text: ({ link }) => (link === undefined ? "missing" : link.isUp ? "up" : "down") },
            { title: "MTU", text: ({ link }) => String(link?.mtuBytes ?? "-"), align: "right" },
            { title: "ADDRESSES", text: ({ link }) => link?.addresses.join(", ") || "-" },
            { title: "PEERS", text: ({ peers }) => String(peers), align: "right" },
          ],
          tunnels,
        ),
    renderEvents("REPAIRED", repairs),
    renderEvents("ERROR", errors),
    findings.length === 0
      ? "No findings.\n"
      : renderTable<NodeReport["findings"][number]>(
          [
            { title: "FINDING", text: ({ code }) => style.warn(code) },
            { title: "WHAT, AND WHAT TO DO", text: ({ message }) => message },
          ],
          findings,
        ),
  ];
  return sections.filter((section) => section !== "").join("\n");
}

function renderEvents(title: string, { total, recent }: EventReport): string {
  if (total === 0) return "";
  const table = renderTable<EventReport["recent"][number]>(
    [
      { title, text: ({ atMs }) => new Date(atMs).toISOString() },
      {
        title: `${total} SINCE THE START`,
        text: ({ what, times }) => (times === undefined ? what : `${what} (${times} times)`),
      },
    ],
    recent,
  );
  return table;
}

function duration(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.max(0, Math.floor(ms / 1000))} s`;
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} days`;
}

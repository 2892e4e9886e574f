// SPDX-License-Identifier: Apache-2.0
// Runs in the namespace to fill: writes the routes, prints how long that took. The agent is warm when it does this, so
// starting Node is not measured.
import type { KernelRoute } from "../src/felix/ports.ts";
import { parseCIDR } from "../src/net/cidr.ts";
import { parseIP } from "../src/net/ip.ts";
import { createDirectKernel } from "../src/netlink/kernel.ts";
import { ROUTES, routeDst } from "./routes.ts";

const kernel = createDirectKernel();
const uplink = (await kernel.routes.listLinks()).find(({ name }) => name === "uplink");
if (uplink === undefined) throw new Error("No link uplink in this namespace");
const gateway = parseIP("172.31.9.2");
const routes: readonly KernelRoute[] = Array.from({ length: ROUTES }, (_, i) => ({
  dst: parseCIDR(routeDst(i)),
  type: "unicast",
  metric: 0,
  protocol: 80,
  ifIndex: uplink.ifIndex,
  gateway,
  onlink: false,
  scope: "universe",
}));
const start = performance.now();
const results = await kernel.routes.replaceRoutes(routes);
const elapsed = performance.now() - start;
const failed = results.find(({ error }) => error !== undefined);
if (failed?.error !== undefined) throw failed.error;
process.stdout.write(`${elapsed}\n`);
await kernel.close();

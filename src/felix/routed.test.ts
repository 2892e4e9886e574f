// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { parseCIDR } from "../net/cidr.ts";
import { parseIP } from "../net/ip.ts";
import { FakeRouteDataplane } from "./fake-route-dataplane.ts";
import type { KernelRoute } from "./ports.ts";
import { routedAddresses } from "./routed.ts";

test("routedAddresses() are those behind links of this node, not blocks, gateways, or ends of tunnels", async () => {
  const kernel = new FakeRouteDataplane();
  const pod = kernel.addLink("cali1");
  const tunnel = kernel.addLink("vxlan.calico");
  const base = { type: "unicast", metric: 0, protocol: 80, onlink: false, scope: "link" } as const;
  const put = (dst: string, more: Partial<KernelRoute>): void => kernel.put({ ...base, dst: parseCIDR(dst), ...more });
  put("10.0.0.5/32", { ifIndex: pod });
  put("fd00::5/128", { ifIndex: pod });
  put("10.0.1.0/26", { ifIndex: pod });
  put("10.0.0.65/32", { ifIndex: tunnel });
  put("10.0.0.66/32", { ifIndex: pod, gateway: parseIP("192.0.2.2") });
  put("10.0.0.7/32", { type: "blackhole" });
  expect([...(await routedAddresses(kernel))].toSorted()).toEqual(["10.0.0.5", "fd00::5"]);
});

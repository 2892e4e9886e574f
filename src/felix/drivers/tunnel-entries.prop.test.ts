// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FakeClock } from "../../lib/fake-clock.ts";
import { parseIP } from "../../net/ip.ts";
import { parseMAC } from "../../net/mac.ts";
import type { VTEP } from "../calc/vxlan.ts";
import { FakeRouteDataplane } from "../fake-route-dataplane.ts";
import { FakeTunnelDataplane } from "../fake-tunnel-dataplane.ts";
import { entriesFor, entryKey, formatEntry } from "../managers/vxlan-manager.ts";
import type { TunnelEntry } from "../ports.ts";
import { TunnelEntries } from "./tunnel-entries.ts";

/** Few of each, so that they collide. */
const NODE_IPS = ["192.0.2.2", "192.0.2.3", "192.0.2.4"].map(parseIP);
const TUNNEL_IPS = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(parseIP);
const MACS = ["66:00:00:00:00:01", "66:00:00:00:00:02", "66:00:00:00:00:03"].map(parseMAC);

const nodeIP = fc.constantFrom(...NODE_IPS);
/** As the calculation makes them: no MAC and no tunnel address twice. */
const peers: fc.Arbitrary<readonly VTEP[]> = fc
  .tuple(
    fc.shuffledSubarray(TUNNEL_IPS),
    fc.shuffledSubarray(MACS, { minLength: 3 }),
    fc.array(nodeIP, { minLength: 3 }),
  )
  .map(([tunnelIPs, macs, nodeIPs]) =>
    tunnelIPs.flatMap((tunnelIP, i) => {
      const [mac, node] = [macs[i], nodeIPs[i]];
      return mac === undefined || node === undefined ? [] : [{ node: `node-${i}`, nodeIP: node, tunnelIP, mac }];
    }),
  );
const entry: fc.Arbitrary<(ifIndex: number) => TunnelEntry> = fc.oneof(
  fc.tuple(fc.constantFrom(...TUNNEL_IPS), fc.constantFrom(...MACS)).map(
    ([ip, mac]) =>
      (ifIndex: number): TunnelEntry => ({ kind: "neigh", ifIndex, ip, mac }),
  ),
  fc.tuple(nodeIP, fc.constantFrom(...MACS)).map(
    ([remote, mac]) =>
      (ifIndex: number): TunnelEntry => ({ kind: "fdb", ifIndex, mac, remote }),
  ),
);
const step = fc.oneof(
  fc.record({ do: fc.constant("want" as const), peers }),
  fc.record({ do: fc.constantFrom("othersPut" as const, "othersRemove" as const), entry }),
  fc.record({ do: fc.constantFrom("apply" as const, "restart" as const, "newDevice" as const) }),
  fc.record({ do: fc.constant("refuse" as const), entry: fc.option(entry) }),
);

describe("TunnelEntries", () => {
  test("after a resync the device has the entries of the peers and no others, whatever happened before", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const kernel = new FakeRouteDataplane();
        const port = new FakeTunnelDataplane(kernel);
        const clock = new FakeClock();
        let ifIndex = kernel.addLink("vxlan.calico");
        const open = (): TunnelEntries => new TunnelEntries({ port, clock, random: () => 0 });
        let table = open();
        let wanted: readonly VTEP[] = [];
        const apply = async (): Promise<void> => {
          table.want(wanted, ifIndex);
          await table.update();
          await table.sweep();
        };
        for (const s of steps) {
          switch (s.do) {
            case "want":
              wanted = s.peers;
              break;
            case "othersPut":
              port.put(s.entry(ifIndex));
              break;
            case "othersRemove":
              port.remove(s.entry(ifIndex));
              break;
            case "apply":
              await apply();
              break;
            case "restart":
              table = open();
              break;
            case "newDevice":
              kernel.deleteLink(ifIndex);
              ifIndex = kernel.addLink("vxlan.calico");
              break;
            case "refuse": {
              const key = s.entry === null ? undefined : entryKey(s.entry(ifIndex));
              port.refuse = (what) =>
                "mac" in what && "ifIndex" in what && what.kind !== "set" && entryKey(what) === key
                  ? new Error("EINVAL")
                  : undefined;
              break;
            }
            default:
              s satisfies never;
          }
        }
        port.refuse = undefined;
        await clock.advance(60_000);
        table.requestResync();
        await apply();
        const shown = port.entries.map(formatEntry).toSorted();
        expect(shown).toEqual([...entriesFor(wanted, ifIndex).values()].map(formatEntry).toSorted());
        expect(table.findings()).toEqual([]);
        const before = port.written.length + port.deleted.length;
        table.requestResync();
        await apply();
        expect(port.written.length + port.deleted.length).toBe(before);
      }),
    );
  });
});

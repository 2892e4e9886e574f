// SPDX-License-Identifier: Apache-2.0
import { existsSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { WiringPlan } from "../../src/cni/ports.ts";
import { FakeLog, FakeSource, fakeNode, fakePool, noMetrics } from "../../src/felix/fake-resources.ts";
import { createFelix, type Felix } from "../../src/felix/felix.ts";
import { podLinksContract } from "../../src/felix/pod-links.contract.ts";
import { steadyClock } from "../../src/lib/system-clock.ts";
import { createDirectKernel, type Kernel } from "../../src/netlink/kernel.ts";
import { enableForwarding } from "../../src/netlink/sysctl.ts";
import { enterHost, ip, Netns, planFor, sysctl } from "./netlink-fixture.ts";

function echo(file: string, value: 0 | 1): void {
  writeFileSync(`/proc/sys/net/${file}`, String(value));
}

podLinksContract("kernel", async () => {
  const host = enterHost("podlink-host");
  const pods: Netns[] = [];
  const kernel = createDirectKernel();
  const { wiring, podLinks } = kernel;
  return {
    podLinks,
    addLink: async ({ hostIface, ips }) => {
      const pod = new Netns(`podlink-pod${pods.length}`);
      pods.push(pod);
      await wiring.wire({ ...planFor(pod, 1), hostIface, ips });
    },
    deleteLink: async ({ hostIface }) => void ip(`link delete ${hostIface}`),
    set: echo,
    read: (file) => (existsSync(`/proc/sys/net/${file}`) ? Number(sysctl(file)) : undefined),
    close: async () => {
      await kernel.close();
      for (const each of [...pods, host]) each[Symbol.dispose]();
    },
  };
});

describe("Felix and the settings of a pod's link", () => {
  let host: Netns;
  let pod: Netns;
  let kernel: Kernel;
  let plan: WiringPlan;
  let felix: Felix;
  let looks: number;

  beforeEach(async () => {
    host = enterHost("podlink-host");
    pod = new Netns("podlink-pod");
    kernel = createDirectKernel();
    plan = planFor(pod, 1);
    const { hostIfIndex } = await kernel.wiring.wire(plan);
    const sources = {
      nodes: new FakeSource(fakeNode("node-a", ["192.0.2.1", "2001:db8::1"])),
      affinities: new FakeSource<never>(),
      pools: new FakeSource(fakePool("four", "10.65.0.0/16"), fakePool("six", "fd00:65::/64")),
    };
    for (const source of Object.values(sources)) source.sync();
    looks = 0;
    felix = createFelix({
      nodeName: "node-a",
      dataplane: kernel.routes,
      podLinks: {
        listChanged: (links) => {
          looks++;
          return kernel.podLinks.listChanged(links);
        },
        write: (settings) => kernel.podLinks.write(settings),
      },
      sources,
      ...{ clock: steadyClock, random: Math.random, log: new FakeLog(), metrics: noMetrics, enableForwarding },
    });
    felix.endpointUp({ key: "1", hostIface: plan.hostIface, hostIfIndex, ips: plan.ips });
    felix.start();
    await vi.waitUntil(() => felix.health.readiness().ok, { timeout: 5000 });
  });

  afterEach(async () => {
    await felix.stop();
    await kernel.close();
    for (const each of [pod, host]) each[Symbol.dispose]();
  });

  test.each([
    ["ipv4", "proxy_arp", "192.0.2.1"],
    ["ipv4", "forwarding", "192.0.2.1"],
    ["ipv6", "proxy_ndp", "2001:db8::1"],
    ["ipv6", "forwarding", "2001:db8::1"],
  ])("%s %s that is switched off is on again at once, and a repair", async (family, name, address) => {
    expect(looks).toBe(1);
    const file = `${family}/conf/${plan.hostIface}/${name}`;
    echo(file, 0);
    await vi.waitUntil(() => sysctl(file) === "1", { timeout: 2000, interval: 5 });
    // The pod has to ask for its gateway, which is what proxy ARP answers.
    pod.run(() => ip("neigh flush dev eth0"));
    expect(pod.pings(address)).toBe(true);
    await vi.waitUntil(() => felix.status().repairs.total > 0, { timeout: 2000 });
    const what = `setting net.${family}.conf.${plan.hostIface}.${name} = 1`;
    expect(felix.status().repairs).toMatchObject({ total: 1, recent: [{ what }] });
  });

  test("another pod's ADD costs no look at all links", async () => {
    const other = new Netns("podlink-other");
    try {
      await kernel.wiring.wire(planFor(other, 2));
      await new Promise((resolve) => setTimeout(resolve, 500));
      expect(looks).toBe(1);
    } finally {
      other[Symbol.dispose]();
    }
  });
});

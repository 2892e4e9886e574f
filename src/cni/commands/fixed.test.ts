// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { used } from "../../ipam/fake-node.ts";
import { CONF } from "../fake-cni.ts";
import { ANNOTATIONS } from "../fixed/annotations.ts";
import { POOL_ANNOTATIONS } from "../input/pod-pools.ts";
import { FakeNodes } from "./fake-nodes.ts";

let world: FakeNodes;
beforeEach(() => {
  world = new FakeNodes();
});
afterEach(() => world[Symbol.dispose]());

const dualConf = { ipam: { type: "gingham-ipam", assign_ipv4: "true", assign_ipv6: "true" } };

describe("addresses by annotation", () => {
  it("are given as they stand there, and decide the families, whatever pools are named", async () => {
    const annotations = { [ANNOTATIONS.addresses]: '["10.0.0.77"]', [POOL_ANNOTATIONS[6]]: '["nowhere"]' };
    world.setPod("one", "u1", "node-a", annotations);
    expect(await world.add("node-a", "one", "c1", { conf: dualConf })).toBe("10.0.0.77/32");
    world.setPod("two", "u2", "node-a", { [ANNOTATIONS.addresses]: '["fd00::9","10.0.0.78"]' });
    expect(await world.add("node-a", "two", "c2")).toBe("fd00::9/128 10.0.0.78/32");
    expect(await world.add("node-a", "two", "c2", { ifName: "net1" })).toMatch(/^10\.0\.0\.\d+\/32$/);
  });

  it("win over IP of CNI_ARGS, which wins over the configuration, and alone names every interface's", async () => {
    world.setPod("one", "u1", "node-a", { [ANNOTATIONS.addresses]: '["10.0.0.77"]' });
    expect(await world.add("node-a", "one", "c1", { args: "IP=10.0.0.80" })).toBe("10.0.0.77/32");
    world.setPod("two", "u2", "node-a");
    expect(await world.add("node-a", "two", "c2", { args: "IP=fd00::20" })).toBe("fd00::20/128");
    expect(await world.add("node-a", "two", "c2", { args: "IP=10.0.0.81", ifName: "net1" })).toBe("10.0.0.81/32");
    expect(await world.add("node-a", "", "c3", { args: "IP=10.0.0.82" })).toBe("10.0.0.82/32");
  });

  it("may come by the runtime's capability ips, which wins over IP of CNI_ARGS and decides the families", async () => {
    const conf = { runtimeConfig: { ips: ["10.0.0.83/24", "fd00::23"] } };
    expect(await world.add("node-a", "", "c4", { args: "IP=10.0.0.84", conf })).toBe("10.0.0.83/32 fd00::23/128");
  });

  it("outside all pools are refused, and nothing stays behind", async () => {
    world.setPod("one", "u1", "node-a", { [ANNOTATIONS.addresses]: '["10.9.0.1"]' });
    expect(await world.add("node-a", "one", "c1", {})).toBe(
      "102: Cannot assign 10.9.0.1: no IPPool holds it (IPv4 pools: pool-0 10.0.0.0/24); ask for an address of one of them, see gingham ipam show",
    );
    expect(await world.nodes["node-a"].records.list()).toEqual([]);
    expect(used(world.store)).toBe(0);
  });

  it("that another pod has are a reason to try again, which names it", async () => {
    const annotations = { [ANNOTATIONS.addresses]: '["10.0.0.77"]' };
    world.setPod("one", "u1", "node-a", annotations);
    world.setPod("two", "u2", "node-b", annotations);
    await world.add("node-a", "one", "c1");
    expect(await world.add("node-b", "two", "c2")).toBe(
      "11: Address 10.0.0.77 of pod default/two is still held by pod default/one on node node-a " +
        "(handle k8s-pod-network.c1, block 10.0.0.64/28); it is free when that is deleted; or ask for another address; " +
        "see gingham ipam show 10.0.0.77",
    );
    expect(await world.nodes["node-b"].records.list()).toEqual([]);
    expect(world.holderOf("10.0.0.77")).toBe("k8s-pod-network.c1 on node-a");
  });

  it("leave the other wishes alone: families, MAC and source prefixes", async () => {
    world.setPod("one", "u1", "node-a", {
      [ANNOTATIONS.families]: '["IPv6"]',
      [ANNOTATIONS.mac]: "02:00:00:00:00:77",
      [ANNOTATIONS.sourcePrefixes]: '["10.20.0.1/16"]',
    });
    const conf = { runtimeConfig: { mac: "02:00:00:00:00:01" } };
    expect(await world.add("node-a", "one", "c1", { conf })).toMatch(/^fd00::[0-9a-f]*\/128$/);
    const stored = await world.nodes["node-a"].records.read({ network: CONF.name, containerID: "c1", ifName: "eth0" });
    expect(stored).toMatchObject({
      record: { allowedSourcePrefixes: ["10.20.0.0/16"], result: { container: { mac: "02:00:00:00:00:77" } } },
    });
    expect(await world.add("node-a", "one", "c1", { conf, ifName: "net1" })).toMatch(/^fd00::/);
    const second = await world.nodes["node-a"].records.read({ network: CONF.name, containerID: "c1", ifName: "net1" });
    expect(second).toMatchObject({ record: { result: { container: { mac: "02:00:00:00:00:01" } } } });
    expect(second.kind === "record" && second.record).not.toHaveProperty("allowedSourcePrefixes");
  });

  it("are not what floating IPs are", async () => {
    world.setPod("one", "u1", "node-a", { [ANNOTATIONS.floatingIPs]: '["1.2.3.4"]' });
    expect(await world.add("node-a", "one", "c1")).toMatch(/^105: .*floatingIPs.* not supported yet/);
    expect(used(world.store)).toBe(0);
  });
});

describe("a new sandbox of the same pod on the same node", () => {
  const ip = "10.0.0.77";
  beforeEach(() => world.setPod("one", "u1", "node-a", { [ANNOTATIONS.addresses]: `["${ip}"]` }));

  it("gets the address once the earlier sandbox is dead, without a DEL", async () => {
    await world.add("node-a", "one", "c1");
    world.machines["node-a"].kernel.removeNetns("/run/netns/c1");
    expect(await world.add("node-a", "one", "c2")).toBe(`${ip}/32`);
    expect(world.holderOf(ip)).toBe("k8s-pod-network.c2 on node-a");
    expect((await world.nodes["node-a"].records.list()).map(({ containerID }) => containerID)).toEqual(["c2"]);
    // The DEL that comes late finds nothing of its own.
    await world.call("node-a", "DEL", "one", "c1");
    expect(world.holderOf(ip)).toBe("k8s-pod-network.c2 on node-a");
  });

  it("gets it when the earlier one is being released", async () => {
    await world.add("node-a", "one", "c1");
    const { addresses } = world.nodes["node-a"];
    world.nodes["node-a"] = {
      ...world.nodes["node-a"],
      addresses: {
        ...addresses,
        release: () => Promise.reject(new Error("away")),
        assign: (...a) => addresses.assign(...a),
      },
    };
    expect(await world.call("node-a", "DEL", "one", "c1")).toEqual({});
    expect(world.holderOf(ip)).toBe("k8s-pod-network.c1 on node-a");
    world.nodes["node-a"] = { ...world.nodes["node-a"], addresses };
    expect(await world.add("node-a", "one", "c2")).toBe(`${ip}/32`);
  });

  it("waits while the earlier one is still there", async () => {
    await world.add("node-a", "one", "c1");
    expect(await world.add("node-a", "one", "c2")).toMatch(
      /^11: Address 10\.0\.0\.77 of pod default\/one is still held by pod default\/one on node node-a .* its earlier sandbox c1 is still there; it is free when the runtime has removed that; see gingham ipam show 10\.0\.0\.77$/,
    );
    expect(world.holderOf(ip)).toBe("k8s-pod-network.c1 on node-a");
    await world.call("node-a", "DEL", "one", "c1");
    expect(await world.add("node-a", "one", "c2")).toBe(`${ip}/32`);
  });

  it("gets what no record knows of, unless a route shows that somebody has it", async () => {
    await world.add("node-a", "one", "c1");
    await world.nodes["node-a"].records.remove({ network: CONF.name, containerID: "c1", ifName: "eth0" });
    world.routes.add(ip);
    expect(await world.add("node-a", "one", "c2")).toMatch(/^11: .* has no record of that sandbox/);
    world.routes.clear();
    expect(await world.add("node-a", "one", "c2")).toBe(`${ip}/32`);
  });
});

describe("a StatefulSet with an IPReservation", () => {
  beforeEach(() => world.reserve("web-addresses", ["10.0.0.200", "10.0.0.210/31"]));

  it("gives each pod its addresses, in whatever order the pods come", async () => {
    world.reserve("web-addresses-6", ["fd00::f0/126"]);
    for (const i of [2, 0, 1]) world.setPod(`web-${i}`, `u${i}`, "node-a");
    const dual = { conf: dualConf };
    expect(await world.add("node-a", "web-2", "c2", dual)).toBe("10.0.0.211/32 fd00::f2/128");
    expect(await world.add("node-a", "web-0", "c0", dual)).toBe("10.0.0.200/32 fd00::f0/128");
    expect(await world.add("node-a", "web-1", "c1", dual)).toBe("10.0.0.210/32 fd00::f1/128");
    world.setPod("web-3", "u3", "node-a");
    expect(await world.add("node-a", "web-3", "c3", dual)).toBe(
      "101: IPReservation web-addresses has no IPv4 address for pod default/web-3; add one to spec.reservedCIDRs for each pod, or run fewer pods, see gingham ipam reserve --list",
    );
    expect(used(world.store)).toBe(6);
  });

  it("moves an address to the node of the new pod, once the old one is deleted", async () => {
    world.reserve("web-addresses-6", ["fd00::f0/126"]);
    world.setPod("web-0", "u1", "node-a");
    await world.add("node-a", "web-0", "c1", { conf: dualConf });
    // Deleted by force while node-a was away: no DEL there. The name has another pod now.
    world.setPod("web-0", "u2", "node-b");
    expect(await world.add("node-b", "web-0", "c2", { conf: dualConf })).toBe("10.0.0.200/32 fd00::f0/128");
    expect(world.holderOf("10.0.0.200")).toBe("k8s-pod-network.c2 on node-b");
    // Node-a comes back: its kubelet retries the ADD of the pod that is gone, and then its DEL. Neither takes anything.
    expect(await world.add("node-a", "web-0", "c3", { uid: "u1" })).toMatch(/^10\.0\.0\.(?!200\/)/);
    await world.call("node-a", "DEL", "web-0", "c1", { uid: "u1" });
    await world.call("node-a", "DEL", "web-0", "c3", { uid: "u1" });
    expect(world.holderOf("10.0.0.200")).toBe("k8s-pod-network.c2 on node-b");
    expect(world.holderOf("fd00::f0")).toBe("k8s-pod-network.c2 on node-b");
    expect(used(world.store)).toBe(2);
  });

  it("keeps it from a pod that the API server has not, until the old node is out of service", async () => {
    world.reserve("single", ["10.0.0.220"], "Pod", "db");
    world.setPod("db", "u1", "node-a");
    await world.add("node-a", "db", "c1");
    world.pods.delete("db");
    expect(await world.add("node-b", "db", "c2")).toBe(
      "11: Address 10.0.0.220 of pod default/db is still held by pod default/db on node node-a " +
        "(handle k8s-pod-network.c1, block 10.0.0.208/28); it is taken over when pod default/db is deleted there or node node-a is marked out of " +
        "service (kubectl taint nodes node-a node.kubernetes.io/out-of-service=nodeshutdown:NoExecute); " +
        "see gingham ipam show 10.0.0.220",
    );
    expect(world.holderOf("10.0.0.220")).toBe("k8s-pod-network.c1 on node-a");
    world.lost.add("node-a");
    expect(await world.add("node-b", "db", "c2")).toBe("10.0.0.220/32");
    expect(world.holderOf("10.0.0.220")).toBe("k8s-pod-network.c2 on node-b");
  });

  it("never takes it from a pod with another name, lost node or not", async () => {
    world.setPod("web-0", "u1", "node-a");
    world.setPod("thief", "u2", "node-b", { [ANNOTATIONS.addresses]: '["10.0.0.200"]' });
    world.lost.add("node-a");
    expect(await world.add("node-b", "thief", "c0")).toMatch(
      /^101: Address 10\.0\.0\.200 is kept by IPReservation web-addresses/,
    );
    await world.add("node-a", "web-0", "c1");
    world.reservations = [];
    expect(await world.add("node-b", "thief", "c2")).toMatch(
      /^11: .* is still held by pod default\/web-0 on node node-a/,
    );
    expect(world.holderOf("10.0.0.200")).toBe("k8s-pod-network.c1 on node-a");
  });

  it("releases just the assignment that was judged: what was taken meanwhile stays", async () => {
    world.setPod("web-0", "u1", "node-a");
    await world.add("node-a", "web-0", "c1");
    world.setPod("web-0", "u2", "node-b");
    const node = world.nodes["node-b"];
    const { holders } = node;
    if (holders === undefined) throw new Error("no holders");
    const taken: string[] = [];
    world.nodes["node-b"] = {
      ...node,
      holders: {
        ...holders,
        // While node-b asks, node-a gives the address back and takes it again for a sandbox of its own.
        async isOutOfService() {
          if (taken.length > 0) return false;
          await world.call("node-a", "DEL", "web-0", "c1", { uid: "u1" });
          world.setPod("web-0", "u3", "node-a");
          taken.push(await world.add("node-a", "web-0", "c3"));
          return false;
        },
      },
    };
    // What was judged was the pod u2; it is gone, and the new holder is judged anew.
    expect(await world.add("node-b", "web-0", "c2", { uid: "u2" })).toMatch(/^11: .* another one by now \(UID u3/);
    expect(taken).toEqual(["10.0.0.200/32"]);
    expect(world.holderOf("10.0.0.200")).toBe("k8s-pod-network.c3 on node-a");
  });

  it("keeps it where nobody can be asked", async () => {
    world.setPod("web-0", "u1", "node-a");
    await world.add("node-a", "web-0", "c1");
    const { holders: _, ...blind } = world.nodes["node-b"];
    world.nodes["node-b"] = blind;
    world.setPod("web-0", "u2", "node-b");
    expect(await world.add("node-b", "web-0", "c2")).toMatch(/^11: .* nobody here can tell whether it is still in use/);
  });
});

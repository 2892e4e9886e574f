// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { IPAMError } from "../ipam/errors.ts";
import { CNIError } from "./errors.ts";
import { FakeMachine, type FakeProcess, K8S_ARGS } from "./fake-cni.ts";
import { POOL_ANNOTATIONS } from "./input/pod-pools.ts";
import type { AddressManager, WiringPlan } from "./ports.ts";
import { sweep } from "./reconcile.ts";

// Typed, since Vitest's matchers are any.
const containing = (words: string): unknown => expect.stringContaining(words);
const containingFields = (fields: object): unknown => expect.objectContaining(fields);
const matching = (pattern: RegExp): unknown => expect.stringMatching(pattern);

let machine: FakeMachine;
let agent: FakeProcess;
beforeEach(() => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  agent = machine.start();
});
afterEach(() => machine[Symbol.dispose]());

const nothingLeft = async () => {
  expect(machine.kernel.links).toEqual([]);
  expect(machine.addresses.held).toEqual([]);
  expect(await agent.cni.records.list()).toEqual([]);
  expect([...agent.endpoints]).toEqual([]);
};
const parsed = (reply: { readonly stdout: string }) => JSON.parse(reply.stdout) as Record<string, unknown>;

describe("ADD", () => {
  it("behind another plugin answers what that one made, too, and its own addresses name its own interfaces", async () => {
    const prevResult = {
      cniVersion: "1.0.0",
      interfaces: [{ name: "ext0", sandbox: "/run/netns/c1" }],
      ips: [{ address: "192.0.2.7/24", interface: 0 }],
      routes: [{ dst: "198.51.100.0/24" }],
      dns: { nameservers: ["192.0.2.1"] },
      "x-extra": 1,
    };
    const answer = parsed(await agent.call("ADD", { conf: { prevResult } }));
    expect(answer).toMatchObject({
      interfaces: [{ name: "ext0" }, { name: "cali0d7763386da" }, { name: "eth0", sandbox: "/run/netns/c1" }],
      ips: [
        { address: "192.0.2.7/24", interface: 0 },
        { address: "10.244.0.64/32", interface: 2 },
      ],
      routes: [{ dst: "198.51.100.0/24" }, { dst: "0.0.0.0/0" }],
      dns: { nameservers: ["192.0.2.1"] },
      "x-extra": 1,
    });
    // A second ADD answers the same, and CHECK takes it.
    expect(parsed(await agent.call("ADD", { conf: { prevResult } }))).toEqual(answer);
    expect(await agent.call("CHECK", { conf: { prevResult: answer } })).toMatchObject({ exitCode: 0 });
  });

  it("and DEL are logged in one line with address, block and times", async () => {
    await agent.call("ADD");
    await agent.call("DEL");
    const told = { ips: ["10.244.0.64"], blocks: ["10.244.0.64/26"], pod: "web-0", containerID: "c1" };
    for (const message of ["ADD done", "DEL done"]) {
      const lines = agent.logged.filter((line) => line.message === message);
      expect(lines).toMatchObject([{ level: "info", fields: { ...told, stepsMs: expect.any(Object) as object } }]);
    }
  });

  it("answers the golden result of 1.0.0", async () => {
    const reply = await agent.call("ADD");
    expect(reply.exitCode).toBe(0);
    expect(parsed(reply)).toEqual({
      cniVersion: "1.0.0",
      interfaces: [
        // SHA-1 of "default.web-0" begins with these eleven digits (sha1sum).
        { name: "cali0d7763386da", mac: "ee:ee:ee:ee:ee:ee" },
        { name: "eth0", mac: "02:00:00:00:00:0a", sandbox: "/run/netns/c1" },
      ],
      ips: [{ address: "10.244.0.64/32", interface: 1 }],
      routes: [{ dst: "0.0.0.0/0", gw: "169.254.1.1" }],
      dns: {},
    });
  });

  it("asks for Calico's handle and attributes", async () => {
    await agent.call("ADD");
    expect(machine.addresses.requests).toEqual([
      {
        handleID: "k8s-pod-network.c1",
        attributes: { namespace: "default", node: "node-a", pod: "web-0", timestamp: "2026-08-22 10:40:00 +0000 UTC" },
        families: [4],
        pools: { 4: [], 6: [] },
        namespace: "default",
      },
    ]);
  });

  it("gives both families when asked for", async () => {
    const ipam = {
      type: "calico-ipam",
      assign_ipv4: "true",
      assign_ipv6: "true",
      ipv4_pools: ["a"],
      ipv6_pools: ["b"],
    };
    const reply = parsed(await agent.call("ADD", { conf: { cniVersion: "0.4.0", ipam } }));
    expect(reply["ips"]).toEqual([
      { version: "4", address: "10.244.0.64/32", interface: 1 },
      { version: "6", address: "fd00:10:244::/128", interface: 1 },
    ]);
    expect(reply["routes"]).toEqual([
      { dst: "0.0.0.0/0", gw: "169.254.1.1" },
      { dst: "::/0", gw: "fe80::ecee:eeff:feee:eeee" },
    ]);
    expect(machine.addresses.requests[0]?.pools).toEqual({ 4: ["a"], 6: ["b"] });
  });

  it("asks for the pools that pod and namespace are annotated with", async () => {
    const annotations = { [POOL_ANNOTATIONS[4]]: '["pod-4"]' };
    machine.pods = { get: async () => ({ uid: "u1", labels: {}, annotations }) };
    machine.namespaces = { get: async () => ({ labels: {}, annotations: { [POOL_ANNOTATIONS[6]]: '["ns-6"]' } }) };
    const ipam = { type: "gingham-ipam", assign_ipv6: "true", ipv4_pools: ["conf"], ipv6_pools: ["conf"] };
    await machine.start().call("ADD", { conf: { ipam } });
    expect(machine.addresses.requests[0]?.pools).toEqual({ 4: ["pod-4"], 6: ["ns-6"] });
    const reply = await machine.start().call("ADD", { containerID: "c2" });
    expect(parsed(reply)).toMatchObject({ code: 7 });
    expect(machine.addresses.held).toHaveLength(2);
  });

  it("takes nothing when nobody can say what pod and namespace are annotated with", async () => {
    machine.pods = { get: () => Promise.reject(new IPAMError("Datastore", "The API server is away")) };
    const reply = await machine.start().call("ADD");
    expect(parsed(reply)).toMatchObject({ code: 11 });
    expect(machine.addresses.requests).toEqual([]);
  });

  it("tells Felix before the kernel has the link, and again after", async () => {
    await agent.call("ADD");
    const key = "k8s-pod-network/c1:eth0";
    expect(agent.told).toEqual([`up ${key} cali0d7763386da wanted`, `up ${key} cali0d7763386da made`]);
  });

  it("answers the recorded result when the attachment is live, in the version asked for", async () => {
    const first = parsed(await agent.call("ADD"));
    const second = parsed(await agent.call("ADD", { conf: { cniVersion: "0.3.1" } }));
    expect(second["interfaces"]).toEqual(first["interfaces"]);
    expect(second["cniVersion"]).toBe("0.3.1");
    expect(machine.addresses.requests).toHaveLength(1);
  });

  it("releases what an earlier life of the container ID left, then attaches anew", async () => {
    await agent.call("ADD");
    machine.kernel.addNetns("/run/netns/c1");
    expect((await agent.call("ADD")).exitCode).toBe(0);
    expect(machine.addresses.requests).toHaveLength(2);
    expect(machine.addresses.held).toHaveLength(1);
    expect(machine.kernel.links).toHaveLength(1);
  });

  it("takes no running pod's address away that the datastore has lost", async () => {
    const other = { containerID: "c2", netns: "/run/netns/c2", args: K8S_ARGS.replace("web-0", "web-1") };
    machine.kernel.addNetns(other.netns);
    await agent.call("ADD");
    const [held] = machine.addresses.held;
    if (held === undefined) throw new Error("no address");
    await machine.addresses.release([held]);
    const told = [...agent.told];
    const reply = parsed(await agent.call("ADD", other));
    expect(reply).toMatchObject({ code: 11, msg: containing("k8s-pod-network/c1:eth0") });
    expect(agent.told).toEqual(told);
    expect(machine.kernel.links).toHaveLength(1);
    expect(machine.addresses.held).toEqual([]);
    await agent.call("DEL");
    expect((await agent.call("ADD", other)).exitCode).toBe(0);
  });

  it("does not confuse interfaces of a pod", async () => {
    await agent.call("ADD");
    await agent.call("ADD", { ifName: "net1" });
    expect(machine.kernel.links).toHaveLength(2);
    await agent.call("DEL", { ifName: "net1" });
    expect(machine.kernel.links.map((link) => link.contIface)).toEqual(["eth0"]);
    expect(machine.addresses.held).toHaveLength(1);
  });

  it("works without Kubernetes, with names from node and container", async () => {
    const args = "IgnoreUnknown=1;K8S_POD_NAME=podman-container";
    const reply = parsed(await agent.call("ADD", { args }));
    expect(reply["interfaces"]).toMatchObject([{ name: matching(/^cali[0-9a-f]{11}$/) }, {}]);
    expect(machine.addresses.requests[0]).toMatchObject({
      handleID: matching(/^k8s-pod-network\.[0-9a-f]{40}$/),
      attributes: { node: "node-a", timestamp: matching(/UTC$/) },
    });
    expect(machine.addresses.requests[0]?.attributes).not.toHaveProperty("pod");
    await agent.call("DEL", { args, netns: "" });
    await nothingLeft();
  });

  it("undoes itself when the wiring fails, and says what is in the way", async () => {
    machine.kernel.addForeignIface("/run/netns/c1", "eth0");
    const reply = await agent.call("ADD");
    expect(reply.exitCode).toBe(1);
    expect(parsed(reply)).toMatchObject({ code: 4, cniVersion: "1.0.0" });
    await nothingLeft();
  });

  it.each([
    [new IPAMError("NoAddress", "No IPv4 address is free in pool a; enlarge it"), 101],
    [new IPAMError("PoolNotFound", "IPPool nope does not exist; create it"), 102],
    [new IPAMError("Datastore", "API server is down; try again"), 11],
  ])("passes on what IPAM says: %s", async (error, code) => {
    machine.addresses.away = error;
    const reply = agent.call("ADD");
    expect(parsed(await reply)).toMatchObject({ code, msg: error.message });
    machine.addresses.away = undefined;
    await nothingLeft();
  });

  it("takes an address while its intent is synced, and makes no link before", async () => {
    const synced = Promise.withResolvers<void>();
    const { records } = agent.cni;
    const create = async (...args: Parameters<typeof records.create>) => {
      await (await records.create(...args)).durable;
      return { durable: synced.promise };
    };
    Object.assign(agent.cni, { records: { ...records, create } });
    const reply = agent.call("ADD");
    await expect.poll(() => machine.addresses.held).toHaveLength(1);
    expect(machine.kernel.links).toEqual([]);
    synced.resolve();
    expect((await reply).exitCode).toBe(0);
    expect(machine.kernel.links).not.toEqual([]);
  });

  it("undoes itself when the disk refuses to keep the intent", async () => {
    const { records } = agent.cni;
    const create = async (...args: Parameters<typeof records.create>) => {
      await records.create(...args);
      const durable = Promise.reject(new CNIError("IOFailure", "Record of c1 cannot be synced: EIO"));
      durable.catch(() => {});
      return { durable };
    };
    Object.assign(agent.cni, { records: { ...records, create } });
    expect(parsed(await agent.call("ADD"))).toMatchObject({ code: 5, msg: containing("cannot be synced") });
    await nothingLeft();
  });

  it("is told of after its answer where somebody sees to that", async () => {
    const told: (() => void)[] = [];
    Object.assign(agent.cni, { afterAnswer: (tell: () => void) => void told.push(tell) });
    expect((await agent.call("ADD")).exitCode).toBe(0);
    expect(agent.logged).toEqual([]);
    for (const tell of told) tell();
    expect(agent.logged).toMatchObject([{ message: "ADD done" }]);
  });

  it("leaves an intent when addresses may be held and the datastore stays away; the sweep undoes it", async () => {
    machine.addresses.away = new IPAMError("Datastore", "API server is down", { mayHoldAddresses: true });
    expect(parsed(await agent.call("ADD"))).toMatchObject({ code: 11 });
    expect(await agent.cni.records.list()).toHaveLength(1);
    machine.addresses.away = undefined;
    expect((await agent.call("ADD")).exitCode).toBe(0);
    expect(machine.addresses.held).toHaveLength(1);
  });

  it("undoes itself when the caller hangs up", async () => {
    const hangUp = new AbortController();
    const assign = machine.addresses.assign.bind(machine.addresses);
    machine.addresses.assign = (async (request, signal) => {
      const allocations = await assign(request, signal);
      hangUp.abort(new Error("hung up"));
      return allocations;
    }) satisfies AddressManager["assign"];
    expect((await agent.call("ADD", { signal: hangUp.signal })).exitCode).toBe(1);
    await nothingLeft();
  });

  it("is cancelled by a DEL, which waits for its undo", async () => {
    const reached = Promise.withResolvers<void>();
    machine.addresses.assign = (_request, signal) => {
      reached.resolve();
      return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    };
    const adding = agent.call("ADD");
    await reached.promise;
    expect((await agent.call("DEL")).exitCode).toBe(0);
    expect(parsed(await adding)).toMatchObject({ code: 11 });
    await nothingLeft();
  });

  it("yields to a newer sandbox of the same pod", async () => {
    machine.kernel.addNetns("/run/netns/c2");
    const reached = Promise.withResolvers<void>();
    const assign = machine.addresses.assign.bind(machine.addresses);
    machine.addresses.assign = (request, signal) => {
      if (request.handleID.endsWith("c2")) return assign(request, signal);
      reached.resolve();
      return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    };
    const older = agent.call("ADD");
    await reached.promise;
    expect((await agent.call("ADD", { containerID: "c2", netns: "/run/netns/c2" })).exitCode).toBe(0);
    expect(parsed(await older)).toMatchObject({ code: 11 });
    expect(machine.kernel.links).toHaveLength(1);
    expect(machine.addresses.held.map((held) => held.handleID)).toEqual(["k8s-pod-network.c2"]);
  });

  it("refuses a configuration that was rendered for another node, by name or by file", async () => {
    expect(parsed(await agent.call("ADD", { conf: { nodename: "node-b" } }))).toMatchObject({ code: 7 });
    machine.nodeNameFiles.set("/var/lib/calico/nodename", "node-b");
    const conf = { nodename_file: "/var/lib/calico/nodename" };
    const msg = containing('nodename_file /var/lib/calico/nodename holds "node-b"');
    expect(parsed(await agent.call("ADD", { conf }))).toMatchObject({ code: 7, msg });
    expect((await agent.call("ADD", { conf: { ...conf, nodename: "node-a" } })).exitCode).toBe(0);
    expect((await agent.call("ADD", { conf: { nodename_file: "/none" } })).exitCode).toBe(0);
  });

  it("makes as many queues as the configuration says", async () => {
    const plans: WiringPlan[] = [];
    const { wiring } = agent.cni;
    const wire = (plan: WiringPlan) => {
      plans.push(plan);
      return wiring.wire(plan);
    };
    Object.assign(agent.cni, { wiring: { identifyNetns: (path: string) => wiring.identifyNetns(path), wire } });
    await agent.call("ADD", { conf: { num_queues: 4 } });
    expect(plans).toMatchObject([{ queues: 4 }]);
  });
});

describe("DEL", () => {
  it("removes everything, with or without a namespace, and again", async () => {
    for (const netns of ["/run/netns/c1", ""]) {
      await agent.call("ADD");
      expect(await agent.call("DEL", { netns })).toEqual({ stdout: "", exitCode: 0, errorCode: 0 });
      await nothingLeft();
      expect(await agent.call("DEL", { netns })).toEqual({ stdout: "", exitCode: 0, errorCode: 0 });
    }
  });

  it("succeeds for what was never added, and when the namespace is gone", async () => {
    expect((await agent.call("DEL", { containerID: "never", netns: "/run/netns/none" })).exitCode).toBe(0);
    await agent.call("ADD");
    machine.kernel.removeNetns("/run/netns/c1");
    expect((await agent.call("DEL")).exitCode).toBe(0);
    await nothingLeft();
  });

  it("of an old sandbox does not touch the new sandbox of the same pod", async () => {
    machine.kernel.addNetns("/run/netns/c2");
    await agent.call("ADD");
    await agent.call("ADD", { containerID: "c2", netns: "/run/netns/c2" });
    const [link] = machine.kernel.links;
    expect((await agent.call("DEL")).exitCode).toBe(0);
    expect(machine.kernel.links).toEqual([link]);
    expect(machine.addresses.held.map((held) => held.handleID)).toEqual(["k8s-pod-network.c2"]);
    expect([...agent.endpoints.keys()]).toEqual(["k8s-pod-network/c2:eth0"]);
  });

  it("takes the endpoint down before the link", async () => {
    await agent.call("ADD");
    await agent.call("DEL");
    expect(agent.told.at(-1)).toBe("down k8s-pod-network/c1:eth0");
  });

  it("without a record releases by handle and by what the namespace holds", async () => {
    await agent.call("ADD");
    await agent.cni.records.remove({ network: "k8s-pod-network", containerID: "c1", ifName: "eth0" });
    expect((await agent.call("DEL")).exitCode).toBe(0);
    expect(machine.kernel.links).toEqual([]);
    expect(machine.addresses.held).toEqual([]);
  });

  it("succeeds while the datastore is away, writes that down, and a sweep finishes it", async () => {
    await agent.call("ADD");
    machine.addresses.away = new IPAMError("Datastore", "API server is down");
    expect(await agent.call("DEL")).toEqual({ stdout: "", exitCode: 0, errorCode: 0 });
    expect(machine.kernel.links).toEqual([]);
    expect(machine.addresses.held).toHaveLength(1);
    expect(await agent.call("DEL", { netns: "" })).toEqual({ stdout: "", exitCode: 0, errorCode: 0 });
    machine.addresses.away = undefined;
    expect((await agent.call("ADD")).exitCode).toBe(0);
    expect(machine.addresses.held).toHaveLength(1);
    await agent.call("DEL");
    await nothingLeft();
  });

  it("waits less than a second for a datastore that hangs", async () => {
    await agent.call("ADD");
    const asked = Promise.withResolvers<void>();
    machine.addresses.release = () => {
      asked.resolve();
      return new Promise(() => {});
    };
    const deleting = agent.call("DEL");
    await asked.promise;
    await machine.clock.advance(999);
    expect(await deleting).toEqual({ stdout: "", exitCode: 0, errorCode: 0 });
    const id = { network: "k8s-pod-network", containerID: "c1", ifName: "eth0" };
    expect(await agent.cni.records.read(id)).toMatchObject({ record: { state: "releasing" } });
  });

  it("succeeds although its record cannot be removed, which does the address's next pod no harm", async () => {
    await agent.call("ADD");
    const id = { network: "k8s-pod-network", containerID: "c1", ifName: "eth0" };
    const refuse = () => Promise.reject(new CNIError("IOFailure", "Record of c1 cannot be removed: EROFS"));
    Object.assign(agent.cni.records, { append: refuse, remove: refuse });
    expect(await agent.call("DEL")).toEqual({ stdout: "", exitCode: 0, errorCode: 0 });
    expect(machine.kernel.links).toEqual([]);
    expect(machine.addresses.held).toEqual([]);
    expect(agent.logged).toContainEqual(
      containingFields({ level: "warn", message: matching(/record could not be rem/) }),
    );

    machine.kernel.removeNetns("/run/netns/c1");
    machine.kernel.addNetns("/run/netns/c2");
    const next = machine.start();
    expect(await next.cni.records.read(id)).toMatchObject({ record: { state: "whole" } });
    await next.call("ADD", { containerID: "c2", netns: "/run/netns/c2" });
    const { held } = machine.addresses;
    expect(await sweep(next.cni)).toMatchObject({ live: 1, released: 1 });
    expect(machine.addresses.held).toEqual(held);
    expect(machine.kernel.links).toHaveLength(1);
    expect([...next.endpoints.keys()]).toEqual(["k8s-pod-network/c2:eth0"]);
    expect(await next.cni.records.read(id)).toEqual({ kind: "absent" });
  });

  it("succeeds although what its launcher wrote down cannot be removed", async () => {
    await agent.call("ADD");
    Object.assign(agent.cni.pending, {
      has: async () => true,
      remove: () => Promise.reject(new Error("EROFS")),
    });
    const env = { GINGHAM_CALL: "01787395200123456789-7" };
    expect(await agent.call("DEL", { env })).toEqual({ stdout: "", exitCode: 0, errorCode: 0 });
    await nothingLeft();
  });

  it("keeps the address while the kernel keeps the link", async () => {
    await agent.call("ADD");
    Object.assign(agent.cni, {
      wiring: { ...agent.cni.wiring, unwire: () => Promise.reject(new Error("EBUSY")) },
    });
    expect((await agent.call("DEL")).exitCode).toBe(1);
    expect(machine.addresses.held).toHaveLength(1);
    expect(await agent.cni.records.list()).toHaveLength(1);
  });

  it("goes through when the rest of the configuration is broken by now", async () => {
    await agent.call("ADD");
    expect((await agent.call("DEL", { conf: { mtu: "big", ipam: { type: "dhcp" } } })).exitCode).toBe(0);
    await nothingLeft();
  });
});

describe("other commands", () => {
  it.each([
    ["CHECK", "0.3.1"],
    ["GC", "1.0.0"],
    ["STATUS", "1.0.0"],
  ])("%s does not exist in %s", async (command, cniVersion) => {
    expect(parsed(await agent.call(command, { conf: { cniVersion } }))).toMatchObject({ cniVersion, code: 1 });
  });

  it("VERSION ignores every other variable, as podman's dummies", async () => {
    const reply = await agent.call("VERSION", { netns: "dummy", ifName: "dummy", conf: { cniVersion: "1.0.0" } });
    expect(parsed(reply)).toEqual({
      cniVersion: "1.0.0",
      supportedVersions: ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    });
  });
});

// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, expect, it } from "vitest";
import { FakeMachine, type FakeProcess } from "./fake-cni.ts";

/** A container in two networks, and two containers in one namespace: an interface that is there is nobody else's to make. */

const SECOND = { conf: { name: "second" } };

let machine: FakeMachine;
let agent: FakeProcess;
beforeEach(async () => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  machine.kernel.addNetns("/run/netns/c2");
  agent = machine.start();
  expect(await agent.call("ADD")).toMatchObject({ exitCode: 0 });
});
afterEach(() => machine[Symbol.dispose]());

it.each([
  ["another network", SECOND],
  ["another container ID", { containerID: "c9" }],
])("ADD by %s of an interface that an attachment has is refused, and takes nothing away", async (_who, options) => {
  const { links } = machine.kernel;
  const { stdout, errorCode } = await agent.call("ADD", options);
  expect(errorCode).toBe(4);
  expect(JSON.parse(stdout)).toMatchObject({
    msg: expect.stringMatching(/^Interface eth0 .* k8s-pod-network\/c1:eth0's; .*CNI_IFNAME/) as string,
  });
  expect(machine.kernel.links).toEqual(links);
  expect(machine.addresses.held).toHaveLength(1);
  expect(await agent.cni.records.list()).toHaveLength(1);
  // Nor does the DEL that follows.
  expect(await agent.call("DEL", options)).toMatchObject({ exitCode: 0 });
  expect(machine.kernel.links).toEqual(links);
  expect(machine.addresses.held).toHaveLength(1);
});

it("by another name both networks have an interface, and each DEL takes its own", async () => {
  const net1 = { ...SECOND, ifName: "net1" };
  expect(await agent.call("ADD", net1)).toMatchObject({ exitCode: 0 });
  expect(machine.kernel.links.map(({ contIface }) => contIface)).toEqual(["eth0", "net1"]);
  expect(await agent.call("DEL")).toMatchObject({ exitCode: 0 });
  expect(machine.kernel.links.map(({ contIface }) => contIface)).toEqual(["net1"]);
  expect(await agent.call("DEL", net1)).toMatchObject({ exitCode: 0 });
  expect(machine.addresses.held).toEqual([]);
});

it("the pod's next sandbox, in a namespace of its own, takes the host's interface over", async () => {
  expect(await agent.call("ADD", { containerID: "c2", netns: "/run/netns/c2" })).toMatchObject({ exitCode: 0 });
  expect(machine.kernel.links).toMatchObject([{ netns: { inode: expect.any(BigInt) as bigint } }]);
  expect(await agent.call("DEL")).toMatchObject({ exitCode: 0 });
  expect(machine.kernel.links).toHaveLength(1);
});

// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, expect, it } from "vitest";
import { parseIP } from "../net/ip.ts";
import { CONF, FakeMachine } from "./fake-cni.ts";
import { runOnce } from "./standalone.ts";

let machine: FakeMachine;
beforeEach(() => {
  machine = new FakeMachine();
  machine.kernel.addNetns("/run/netns/c1");
  machine.kernel.addNetns("/run/netns/c2");
});
afterEach(() => machine[Symbol.dispose]());

/** Each call is a process of its own. */
function call(verb: string, containerID: string, pod: string, conf: object = CONF): ReturnType<typeof runOnce> {
  const { cni } = machine.start();
  const env = {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: containerID,
    CNI_NETNS: `/run/netns/${containerID}`,
    CNI_IFNAME: "eth0",
    CNI_ARGS: `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod}`,
  };
  return runOnce(async () => ({ cni, [Symbol.asyncDispose]: async () => {} }), env, JSON.stringify(conf));
}

it("neither ADD nor DEL by another network takes an interface away", async () => {
  expect(await call("ADD", "c1", "web-0")).toMatchObject({ exitCode: 0 });
  const second = { ...CONF, name: "second" };
  expect(await call("ADD", "c1", "web-0", second)).toMatchObject({ errorCode: 4 });
  expect(await call("DEL", "c1", "web-0", second)).toMatchObject({ exitCode: 0 });
  expect(machine.kernel.links).toHaveLength(1);
  expect(machine.addresses.held).toHaveLength(1);
});

it("an address that a running pod has is given to no other, although its block says that it is free", async () => {
  expect(await call("ADD", "c1", "web-0")).toMatchObject({ exitCode: 0 });
  const [{ handleID, ip } = { handleID: "", ip: 0 }] = machine.addresses.held;
  await machine.addresses.releaseByHandle(handleID);
  const { errorCode, stdout } = await call("ADD", "c2", "web-1");
  expect(errorCode).toBe(11);
  expect(JSON.parse(stdout)).toMatchObject({
    msg: expect.stringMatching(/^Attachment k8s-pod-network\/c1:eth0 .* still has 10\.244\.0\.64/) as string,
  });
  expect(machine.addresses.held).toEqual([]);
  expect(machine.kernel.links).toHaveLength(1);
  // Nor is that of a pod which has gone.
  machine.kernel.removeNetns("/run/netns/c1");
  expect(await call("ADD", "c2", "web-1")).toMatchObject({ exitCode: 0 });
  expect(machine.addresses.held.map((held) => held.ip)).toEqual([ip]);
});

it("an address that the node itself has, such as its tunnel's, is given to no pod, although its block says that it is free", async () => {
  machine.ownAddresses.push(parseIP("10.244.0.64"));
  const { errorCode, stdout } = await call("ADD", "c1", "web-0");
  expect(errorCode).toBe(11);
  expect(JSON.parse(stdout)).toMatchObject({
    msg: expect.stringMatching(/^10\.244\.0\.64 is this node's own/) as string,
  });
  expect(machine.addresses.held).toEqual([]);
  expect(machine.kernel.links).toEqual([]);
});

it("a second ADD answers what the first one did, and the pod's next sandbox takes its interface over", async () => {
  const first = await call("ADD", "c1", "web-0");
  expect(await call("ADD", "c1", "web-0")).toEqual(first);
  expect(await call("ADD", "c2", "web-0")).toMatchObject({ exitCode: 0 });
  expect(machine.kernel.links).toHaveLength(1);
  for (const id of ["c1", "c2"]) expect(await call("DEL", id, "web-0")).toMatchObject({ exitCode: 0 });
  expect(machine.addresses.held).toEqual([]);
  expect(machine.kernel.links).toEqual([]);
});

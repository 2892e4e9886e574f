// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { FakeMachine, type FakeProcess } from "../../src/cni/fake-cni.ts";
import { createDirectKernel, type Kernel } from "../../src/netlink/kernel.ts";
import { enterHost, ip, Netns, rows } from "./netlink-fixture.ts";

/** CHECK against the real kernel: somebody breaks one thing at a time, with iproute2. The datastore is in memory. */

const IFACE = "cali0d7763386da";
const V4 = "10.244.0.64";
const V6 = "fd00:10:244::";
const CONF = {
  cniVersion: "1.1.0",
  mtu: 1440,
  num_queues: 2,
  ipam: { type: "gingham-ipam", assign_ipv4: "true", assign_ipv6: "true" },
};

let host: Netns;
let kernel: Kernel;
let pod: Netns;
let machine: FakeMachine;
let agent: FakeProcess;
let prevResult: unknown;

beforeAll(() => {
  host = enterHost("check-host");
  kernel = createDirectKernel();
});
afterAll(async () => {
  await kernel.close();
  host[Symbol.dispose]();
});

beforeEach(async () => {
  pod = new Netns("check-pod");
  machine = new FakeMachine();
  agent = machine.start();
  Object.assign(agent.cni, { wiring: kernel.wiring });
  const { stdout, exitCode } = await call("ADD");
  expect(exitCode, stdout).toBe(0);
  prevResult = JSON.parse(stdout);
});
afterEach(async () => {
  expect((await call("DEL")).exitCode).toBe(0);
  machine[Symbol.dispose]();
  pod[Symbol.dispose]();
});

function call(command: string, conf: object = {}): ReturnType<FakeProcess["call"]> {
  return agent.call(command, { netns: pod.path, conf: { ...CONF, ...conf } });
}

/** The message of CHECK's error; empty text when all is well. */
async function check(): Promise<string> {
  const { stdout, exitCode } = await call("CHECK", { prevResult });
  if (exitCode === 0) return stdout;
  const { code, msg } = JSON.parse(stdout) as { code: number; msg: string };
  expect(code).toBe(107);
  return msg;
}

const inPod = (words: string) => () => pod.run(() => ip(words));
const onHost = (words: string) => () => ip(words);

describe("CHECK", () => {
  test("finds nothing wrong with what ADD made, as often as it is asked", async () => {
    expect(await check()).toBe("");
    expect(await check()).toBe("");
    expect(rows("ip", `-d link show ${IFACE}`)).toMatchObject([{ num_tx_queues: 2, num_rx_queues: 2 }]);
    pod.run(() => expect(rows("ip", "-d link show eth0")).toMatchObject([{ num_tx_queues: 2, num_rx_queues: 2 }]));
  });

  test.each<[string, () => unknown, string, string]>([
    ["pair", onHost(`link delete ${IFACE}`), `link ${IFACE} of the host`, "have none"],
    ["MAC of the host's end", onHost(`link set ${IFACE} address 02:00:00:00:00:09`), "MAC", "want ee:ee:ee:ee:ee:ee"],
    ["MTU of the host's end", onHost(`link set ${IFACE} mtu 1400`), `MTU of link ${IFACE}`, "want 1440, have 1400"],
    ["state of the host's end", onHost(`link set ${IFACE} down`), `state of link ${IFACE}`, "have down"],
    ["name of the pod's end", inPod("link set eth0 name net1"), "link eth0 in", "have none"],
    ["MAC of the pod's end", inPod("link set eth0 address 02:00:00:00:00:09"), "MAC", "have 02:00:00:00:00:09"],
    ["MTU of the pod's end", inPod("link set eth0 mtu 1400"), "MTU of link eth0", "want 1440, have 1400"],
    ["state of the pod's end", inPod("link set eth0 down"), "state of link eth0", "have down"],
    ["IPv4 address", inPod(`addr del ${V4}/32 dev eth0`), "addresses of eth0", `want ${V4}/32`],
    ["IPv6 address", inPod(`addr del ${V6}/128 dev eth0`), "addresses of eth0", `want ${V6}/128`],
    ["default route", inPod("route del default"), "routes of eth0", "want 0.0.0.0/0 via 169.254.1.1"],
    ["route to the gateway", inPod("route del 169.254.1.1/32"), "routes of eth0", "want 169.254.1.1/32"],
    ["IPv6 default route", inPod("-6 route del default"), "routes of eth0", "want ::/0 via fe80::ecee:eeff:feee:eeee"],
    [
      "IPv6 gateway",
      onHost(`addr del fe80::ecee:eeff:feee:eeee/64 dev ${IFACE}`),
      `addresses of ${IFACE}`,
      "want fe80",
    ],
    [
      "host route",
      onHost(`route del ${V4}/32`),
      `route of the host to ${V4}`,
      "have 0.0.0.0/0 via 192.0.2.254 dev up0",
    ],
    ["IPv6 host route", onHost(`-6 route del ${V6}/128`), `route of the host to ${V6}`, `want ${V6}/128 dev ${IFACE}`],
    ["host route's device", onHost(`route replace ${V4}/32 dev up0`), `route of the host to ${V4}`, "dev up0"],
    [
      "setting",
      () => writeFileSync(`/proc/sys/net/ipv4/conf/${IFACE}/proxy_arp`, "0"),
      `setting net/ipv4/conf/${IFACE}/proxy_arp`,
      "want 1, have 0",
    ],
    [
      "IPv6 setting",
      () => writeFileSync(`/proc/sys/net/ipv6/conf/${IFACE}/proxy_ndp`, "0"),
      `setting net/ipv6/conf/${IFACE}/proxy_ndp`,
      "want 1, have 0",
    ],
    [
      "allocation",
      () => machine.addresses.releaseByHandle("k8s-pod-network.c1"),
      `allocation of ${V4}`,
      `have ${V4} is free`,
    ],
  ])("names the %s when somebody has changed it", async (_what, tamper, object, words) => {
    expect(await check()).toBe("");
    await tamper();
    const message = await check();
    expect(message).toContain(object);
    expect(message).toContain(words);
  });

  test("lets others add addresses, routes and links", async () => {
    pod.run(() => {
      ip("link add net1 type bridge");
      ip("addr add 192.0.2.9/24 dev eth0");
      ip("link set net1 up");
      ip("route add 198.51.100.0/24 dev net1");
    });
    expect(await check()).toBe("");
  });

  test("tells another pair of the same names from the one that it made", async () => {
    ip(`link delete ${IFACE}`);
    ip(`link add ${IFACE} address ee:ee:ee:ee:ee:ee mtu 1440 type veth peer name eth0 netns ${pod.name}`);
    expect(await check()).toMatch(/link cali0d7763386da of the host: want index \d+, have index \d+/);
    ip(`link delete ${IFACE}`);
  });
});

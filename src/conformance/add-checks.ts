// SPDX-License-Identifier: Apache-2.0

import { isAtLeast } from "../cni/input/versions.ts";
import type { Check } from "./model.ts";
import { addressesOf, complainOfResult, interfaceOf, parseObject } from "./shapes.ts";
import { excerpt } from "./subject.ts";
import { NotApplicable, Violation } from "./verdicts.ts";

/** ADD that succeeds, and what it leaves in the kernel. */

const ADD = "2, ADD";
const RESULT = "5, ADD Success";
const AT_ONCE = 8;

export const ADD_CHECKS: readonly Check[] = [
  {
    name: "ADD prints one result in the version asked for",
    section: RESULT,
    since: "0.1.0",
    async run(subject) {
      const problem = complainOfResult(await (await subject.container()).add(), subject.version);
      if (problem !== undefined) throw new Violation(`the result ${problem}`);
    },
  },
  {
    name: "ADD makes CNI_IFNAME in the namespace, with the addresses of the result",
    section: ADD,
    since: "0.1.0",
    async run(subject) {
      const { result, link } = await (await subject.container()).addLink();
      const missing = addressesOf(result).filter((address) => !link.addresses.includes(address));
      if (missing.length > 0)
        throw new Violation(`the interface lacks ${missing.join(", ")}; it has ${link.addresses.join(", ")}`);
    },
  },
  {
    name: "ADD lists the container's interface, with its MAC",
    section: RESULT,
    since: "0.3.0",
    async run(subject) {
      const container = await subject.container();
      const { result, link } = await container.addLink();
      const entry = interfaceOf(result, "eth0");
      if (entry === undefined) throw new Violation("interfaces has no eth0 with a sandbox");
      if (entry["sandbox"] !== container.netns)
        throw new Violation(`its sandbox is ${JSON.stringify(entry["sandbox"])}, want ${container.netns}`);
      if (entry["mac"] !== link.mac)
        throw new Violation(`its mac is ${JSON.stringify(entry["mac"])}, the interface has ${link.mac}`);
    },
  },
  {
    name: "ADD tells the MTU that the interface has",
    section: RESULT,
    since: "1.1.0",
    async run(subject) {
      const { result, link } = await (await subject.container()).addLink();
      const mtu = interfaceOf(result, "eth0")?.["mtu"];
      if (mtu === undefined) throw new NotApplicable("the result has no mtu, which is optional");
      if (mtu !== link.mtu) throw new Violation(`mtu is ${JSON.stringify(mtu)}, the interface has ${link.mtu}`);
    },
  },
  {
    name: "ADD gives a container a second interface",
    section: ADD,
    since: "0.1.0",
    async run(subject) {
      const container = await subject.container();
      const first = await container.addLink();
      const second = await container.addLink("net1");
      const shared = addressesOf(second.result).filter((address) => addressesOf(first.result).includes(address));
      if (shared.length > 0) throw new Violation(`both interfaces have ${shared.join(", ")}`);
      subject.expectSilence(await container.call("DEL", { CNI_IFNAME: "net1" }), "DEL of the second");
      if ((await container.link()) === undefined) throw new Violation("DEL of the second took the first away");
    },
  },
  {
    name: "ADD gives two containers different addresses",
    section: ADD,
    since: "0.1.0",
    async run(subject) {
      const first = addressesOf(await (await subject.container()).add());
      const second = addressesOf(await (await subject.container()).add());
      const shared = second.filter((address) => first.includes(address));
      if (shared.length > 0) throw new Violation(`both have ${shared.join(", ")}`);
    },
  },
  {
    name: `${AT_ONCE} ADDs at once give as many addresses, and as many DELs at once take all away`,
    section: "3, Lifecycle & Ordering",
    since: "0.1.0",
    async run(subject) {
      const containers = [];
      for (let i = 0; i < AT_ONCE; i++) containers.push(await subject.container());
      const results = await Promise.all(containers.map((container) => container.add()));
      const addresses = results.flatMap(addressesOf);
      if (new Set(addresses).size < addresses.length || addresses.length < AT_ONCE)
        throw new Violation(`they have ${addresses.join(", ")}`);
      for (const answer of await Promise.all(containers.map((container) => container.call("DEL"))))
        subject.expectSilence(answer, "DEL");
      for (const container of containers) {
        if ((await container.link()) !== undefined) throw new Violation("an eth0 is still there");
      }
    },
  },
  {
    name: "ADD twice without DEL is an error or the same result, and one DEL takes all away",
    section: ADD,
    since: "0.1.0",
    async run(subject) {
      // What a plugin makes once and keeps, such as a bridge, shall be there before.
      const other = await subject.container();
      await other.add();
      await other.call("DEL");
      const before = new Set((await subject.machine.links()).map(({ name }) => name));
      const container = await subject.container();
      const result = await container.add();
      const again = await container.call("ADD");
      if (again.exitCode !== 0) subject.expectError(again, "the second ADD");
      else if (addressesOf(parseObject(again.stdout) ?? {}).join() !== addressesOf(result).join())
        throw new Violation(`the second ADD answered ${excerpt(again.stdout)}, which is not the first one's result`);
      subject.expectSilence(await container.call("DEL"), "DEL");
      const left = (await subject.machine.links()).filter(({ name }) => !before.has(name));
      if (left.length > 0) throw new Violation(`DEL left ${left.map(({ name }) => name).join(", ")} on the machine`);
      const inside = await subject.machine.links(container.netns);
      if (inside.length > 0) throw new Violation(`DEL left ${inside.map(({ name }) => name).join(", ")} inside`);
    },
  },
  {
    name: "ADD passes prevResult on",
    section: RESULT,
    since: "0.3.0",
    async run(subject) {
      const container = await subject.container();
      // Of plugins that only give addresses, the calling one looks after it.
      await (await subject.container()).addLink();
      const version = isAtLeast(subject.version, "1.0.0") ? {} : { version: "4" };
      const prevResult = {
        cniVersion: subject.version,
        interfaces: [{ name: "before0", sandbox: container.netns }],
        ips: [{ ...version, address: "192.0.2.77/24", interface: 0 }],
      };
      const answer = await container.call("ADD", {}, { prevResult });
      subject.expectSuccess(answer, "ADD");
      const result = parseObject(answer.stdout) ?? {};
      const problem = complainOfResult(result, subject.version);
      if (problem !== undefined) throw new Violation(`the result ${problem}`);
      if (interfaceOf(result, "before0") === undefined || !addressesOf(result).includes("192.0.2.77/24"))
        throw new Violation("the result has lost the interface and the address of prevResult");
      if (interfaceOf(result, "eth0") === undefined) throw new Violation("the result lacks eth0");
    },
  },
  {
    name: "ADD takes CNI_ARGS that it does not know, when IgnoreUnknown says so",
    section: "2, Parameters",
    since: "0.1.0",
    async run(subject) {
      const args = subject.withArgs("IgnoreUnknown=1;COLOUR=blue");
      subject.expectSuccess(await (await subject.container()).call("ADD", { CNI_ARGS: args }), "ADD");
    },
  },
  {
    name: "ADD refuses an interface that the namespace has already",
    section: ADD,
    since: "0.1.0",
    async run(subject) {
      const { link } = await (await subject.container()).addLink();
      const container = await subject.container();
      await subject.machine.addLink(container.netns, link.name);
      subject.expectError(await container.call("ADD"), "ADD");
    },
  },
];

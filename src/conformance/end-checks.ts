// SPDX-License-Identifier: Apache-2.0

import type { Check } from "./model.ts";
import type { Container, Subject } from "./subject.ts";
import { Violation } from "./verdicts.ts";

/** DEL, CHECK and GC: what comes after an ADD. */

const DEL = "2, DEL";
const CHECK = "2, CHECK";
const GC = "2, GC";
/** Of the range for documentation. Both families' plugins compare texts or prefixes, and neither has it. */
const OTHER_ADDRESS = { address: "192.0.2.77/32", version: "4" };
const VALID_ATTACHMENTS = "cni.dev/valid-attachments";

async function attach(
  subject: Subject,
): Promise<{ container: Container; prevResult: Readonly<Record<string, unknown>> }> {
  const container = await subject.container();
  return { container, prevResult: await container.add() };
}

function ofDel(name: string, since: Check["since"], run: Check["run"]): Check {
  return { name, section: DEL, since, run };
}

export const END_CHECKS: readonly Check[] = [
  ofDel("DEL takes the interface away and prints nothing", "0.1.0", async (subject) => {
    const container = await subject.container();
    await container.addLink();
    subject.expectSilence(await container.call("DEL"), "DEL");
    if ((await container.link()) !== undefined) throw new Violation("eth0 is still there");
  }),
  ofDel("DEL with prevResult takes the interface away", "0.4.0", async (subject) => {
    const container = await subject.container();
    const { result } = await container.addLink();
    subject.expectSilence(await container.call("DEL", {}, { prevResult: result }), "DEL");
    if ((await container.link()) !== undefined) throw new Violation("eth0 is still there");
  }),
  ofDel("a second DEL succeeds", "0.1.0", async (subject) => {
    const { container } = await attach(subject);
    subject.expectSilence(await container.call("DEL"), "the first DEL");
    subject.expectSilence(await container.call("DEL"), "the second DEL");
  }),
  ofDel("DEL without an ADD succeeds", "0.1.0", async (subject) => {
    subject.expectSilence(await (await subject.container()).call("DEL"), "DEL");
  }),
  ofDel("DEL of an interface that is gone succeeds", "0.1.0", async (subject) => {
    const container = await subject.container();
    await container.addLink();
    await subject.machine.removeLink(container.netns, "eth0");
    subject.expectSilence(await container.call("DEL"), "DEL");
  }),
  ofDel("DEL of a namespace that is gone succeeds", "0.1.0", async (subject) => {
    const { container } = await attach(subject);
    await subject.machine.removeNamespace(container.netns);
    subject.expectSilence(await container.call("DEL"), "DEL");
  }),
  ofDel("DEL with an empty CNI_NETNS succeeds", "0.1.0", async (subject) => {
    const { container } = await attach(subject);
    await subject.machine.removeNamespace(container.netns);
    subject.expectSilence(await container.call("DEL", { CNI_NETNS: "" }), "DEL");
  }),
  {
    name: "DEL after an ADD that failed succeeds",
    section: "3, Lifecycle & Ordering",
    since: "0.1.0",
    async run(subject) {
      const container = await subject.container();
      await subject.machine.addLink(container.netns, "eth0");
      // One for IPAM does not look at the namespace, and gives an address, which is as good here.
      await container.call("ADD");
      await subject.machine.removeLink(container.netns, "eth0");
      subject.expectSilence(await container.call("DEL"), "DEL");
    },
  },
  ofDel("after DEL the same container can be added again", "0.1.0", async (subject) => {
    const { container } = await attach(subject);
    await container.call("DEL");
    await container.add();
  }),
  {
    name: "CHECK of what ADD made prints nothing",
    section: CHECK,
    since: "0.4.0",
    async run(subject) {
      const { container, prevResult } = await attach(subject);
      subject.expectSilence(await container.call("CHECK", {}, { prevResult }), "CHECK");
    },
  },
  {
    name: "CHECK fails when the interface is gone",
    section: CHECK,
    since: "0.4.0",
    async run(subject) {
      const container = await subject.container();
      const { result } = await container.addLink();
      await subject.machine.removeLink(container.netns, "eth0");
      subject.expectError(await container.call("CHECK", {}, { prevResult: result }), "CHECK");
    },
  },
  {
    name: "CHECK fails when the address is gone",
    section: CHECK,
    since: "0.4.0",
    async run(subject) {
      const container = await subject.container();
      const { result } = await container.addLink();
      await subject.machine.removeAddresses(container.netns, "eth0");
      subject.expectError(await container.call("CHECK", {}, { prevResult: result }), "CHECK");
    },
  },
  {
    name: "CHECK fails when prevResult has an address that the interface has not",
    section: CHECK,
    since: "0.4.0",
    async run(subject) {
      const container = await subject.container();
      const { result } = await container.addLink();
      const ips = (result["ips"] as readonly object[]).map((ip) => ({ ...ip, ...OTHER_ADDRESS }));
      subject.expectError(await container.call("CHECK", {}, { prevResult: { ...result, ips } }), "CHECK");
    },
  },
  {
    name: "CHECK fails after DEL",
    section: CHECK,
    since: "0.4.0",
    async run(subject) {
      const { container, prevResult } = await attach(subject);
      await container.call("DEL", {}, { prevResult });
      subject.expectError(await container.call("CHECK", {}, { prevResult }), "CHECK");
    },
  },
  {
    name: "CHECK without prevResult is an error",
    section: CHECK,
    since: "0.4.0",
    async run(subject) {
      const container = await subject.container();
      // A plugin for IPAM is asked by another, which has looked at prevResult itself.
      await container.addLink();
      subject.expectError(await container.call("CHECK"), "CHECK");
    },
  },
  {
    name: "CHECK in a version that has none is an error",
    section: CHECK,
    since: "0.1.0",
    until: "0.3.1",
    async run(subject) {
      const { container, prevResult } = await attach(subject);
      subject.expectError(await container.call("CHECK", {}, { prevResult }), "CHECK");
    },
  },
  {
    name: "GC takes away what is not listed, and leaves what is",
    section: GC,
    since: "1.1.0",
    async run(subject) {
      const [kept, lost] = [await attach(subject), await attach(subject)];
      const listed = [{ containerID: kept.container.id, ifname: "eth0" }];
      subject.expectSilence(await subject.node("GC", { [VALID_ATTACHMENTS]: listed }), "GC");
      const { prevResult } = kept;
      subject.expectSilence(await kept.container.call("CHECK", {}, { prevResult }), "CHECK of what was listed");
      const gone = await lost.container.call("CHECK", {}, { prevResult: lost.prevResult });
      if (gone.exitCode === 0 || (await lost.container.link()) !== undefined)
        throw new Violation("what was not listed is still there");
    },
  },
  {
    name: "GC tells the interfaces of one container apart",
    section: GC,
    since: "1.1.0",
    async run(subject) {
      const container = await subject.container();
      await container.addLink();
      const { result: prevResult } = await container.addLink("net1");
      const listed = [{ containerID: container.id, ifname: "net1" }];
      subject.expectSilence(await subject.node("GC", { [VALID_ATTACHMENTS]: listed }), "GC");
      if ((await container.link()) !== undefined) throw new Violation("eth0, which was not listed, is still there");
      const check = await container.call("CHECK", { CNI_IFNAME: "net1" }, { prevResult });
      subject.expectSilence(check, "CHECK of net1, which was listed");
    },
  },
  {
    name: "GC of another network leaves this one's attachments",
    section: GC,
    since: "1.1.0",
    async run(subject) {
      const { container, prevResult } = await attach(subject);
      const other = { name: `${String(subject.conf()["name"])}-other`, [VALID_ATTACHMENTS]: [] };
      subject.expectSilence(await subject.node("GC", other), "GC");
      subject.expectSilence(await container.call("CHECK", {}, { prevResult }), "CHECK");
    },
  },
  {
    name: "GC takes away what is left of a namespace that is gone, and a second GC succeeds",
    section: GC,
    since: "1.1.0",
    async run(subject) {
      const { container } = await attach(subject);
      await subject.machine.removeNamespace(container.netns);
      for (const which of ["the first GC", "the second GC"])
        subject.expectSilence(await subject.node("GC", { [VALID_ATTACHMENTS]: [] }), which);
    },
  },
  {
    // Nothing listed by mistake must not be read as: take everything away.
    name: "GC without a list is an error",
    section: GC,
    since: "1.1.0",
    async run(subject) {
      const { container, prevResult } = await attach(subject);
      subject.expectError(await subject.node("GC"), "GC");
      subject.expectSilence(await container.call("CHECK", {}, { prevResult }), "CHECK after the refused GC");
    },
  },
  {
    name: "DEL succeeds after GC took the attachment away",
    section: GC,
    since: "1.1.0",
    async run(subject) {
      const { container, prevResult } = await attach(subject);
      subject.expectSilence(await subject.node("GC", { [VALID_ATTACHMENTS]: [] }), "GC");
      subject.expectSilence(await container.call("DEL", {}, { prevResult }), "DEL");
    },
  },
  {
    name: "GC and STATUS in a version that has none are errors",
    section: GC,
    since: "0.4.0",
    until: "1.0.0",
    async run(subject) {
      for (const verb of ["GC", "STATUS"]) {
        const answer = await subject.node(verb, verb === "GC" ? { [VALID_ATTACHMENTS]: [] } : {});
        subject.expectError(answer, verb);
      }
    },
  },
];

// SPDX-License-Identifier: Apache-2.0
import { isAtLeast } from "../cni/versions.ts";
import { type Check, Violation } from "./model.ts";
import { isObject, parseObject } from "./shapes.ts";
import { excerpt, type Subject } from "./subject.ts";
import type { Answer } from "./types.ts";

/** VERSION, and calls that cannot succeed. Source of the codes: CNI SPEC 1.1.0, section 5, Error. */

const INCOMPATIBLE_VERSION = 1;
const INVALID_ENVIRONMENT = 4;
const DECODING_FAILURE = 6;
const INVALID_CONFIGURATION = 7;

function refusesEnvironment(name: string, variable: string, value: string | undefined): Check {
  return {
    name,
    section: "2, Parameters",
    since: "0.1.0",
    async run(subject) {
      const container = await subject.container();
      const answer = await container.call("ADD", { [variable]: value });
      subject.expectError(answer, "ADD", INVALID_ENVIRONMENT);
    },
  };
}

/** Plugins that make no interface do not look at the namespace, and are not asked. */
async function addIntoNowhere(subject: Subject): Promise<Answer> {
  await (await subject.container()).addLink();
  const container = await subject.container();
  return await container.call("ADD", { CNI_NETNS: `${container.netns}-gone` });
}

export const INPUT_CHECKS: readonly Check[] = [
  {
    name: "VERSION lists the versions, in the version asked for",
    section: "5, VERSION Success",
    since: "0.1.0",
    async run(subject) {
      const answer = await subject.call({ CNI_COMMAND: "VERSION" }, JSON.stringify({ cniVersion: subject.version }));
      subject.expectSuccess(answer, "VERSION");
      const { cniVersion, supportedVersions } = parseObject(answer.stdout) ?? {};
      if (!Array.isArray(supportedVersions) || !supportedVersions.includes(subject.version))
        throw new Violation(`supportedVersions is ${JSON.stringify(supportedVersions)}`);
      if (cniVersion !== subject.version)
        throw new Violation(`cniVersion is ${JSON.stringify(cniVersion)}, want ${subject.version}, as on input`);
    },
  },
  refusesEnvironment("ADD without CNI_CONTAINERID is refused with code 4", "CNI_CONTAINERID", undefined),
  refusesEnvironment("ADD without CNI_NETNS is refused with code 4", "CNI_NETNS", undefined),
  refusesEnvironment("ADD without CNI_IFNAME is refused with code 4", "CNI_IFNAME", undefined),
  refusesEnvironment("ADD with a CNI_CONTAINERID of wrong characters is refused with code 4", "CNI_CONTAINERID", "a/b"),
  refusesEnvironment("ADD with a CNI_IFNAME of 16 bytes is refused with code 4", "CNI_IFNAME", "interface-name-0"),
  refusesEnvironment("ADD with a CNI_IFNAME of wrong characters is refused with code 4", "CNI_IFNAME", "eth/0"),
  refusesEnvironment("an unknown CNI_COMMAND is refused with code 4", "CNI_COMMAND", "FROBNICATE"),
  {
    name: "ADD with a standard input that is no JSON is refused with code 6",
    section: "5, Error",
    since: "0.1.0",
    async run(subject) {
      const container = await subject.container();
      subject.expectError(await container.send("ADD", {}, "{ this is no JSON"), "ADD", DECODING_FAILURE);
    },
  },
  {
    name: "ADD with a configuration that has no name is refused with code 7",
    section: "5, Error",
    // Before, a name was asked for, but no code for its lack.
    since: "0.4.0",
    async run(subject) {
      const { name: _, ...nameless } = subject.conf();
      const container = await subject.container();
      subject.expectError(await container.send("ADD", {}, JSON.stringify(nameless)), "ADD", INVALID_CONFIGURATION);
    },
  },
  {
    name: "ADD in a version that VERSION does not list is refused with code 1",
    section: "5, Error",
    since: "0.1.0",
    async run(subject) {
      const container = await subject.container();
      subject.expectError(await container.call("ADD", {}, { cniVersion: "9.9.9" }), "ADD", INCOMPATIBLE_VERSION);
    },
  },
  {
    name: "ADD into a namespace that does not exist is an error",
    section: "5, Error",
    since: "0.1.0",
    async run(subject) {
      const answer = await addIntoNowhere(subject);
      subject.expectError(answer, "ADD");
    },
  },
  {
    name: "an error has the cniVersion of the configuration",
    section: "5, Error",
    since: "0.1.0",
    async run(subject) {
      const answer = await addIntoNowhere(subject);
      subject.expectError(answer, "ADD");
      const found = parseObject(answer.stdout)?.["cniVersion"];
      if (found !== subject.version)
        throw new Violation(`the error's cniVersion is ${JSON.stringify(found) ?? "not set"}, want ${subject.version}`);
    },
  },
  {
    name: "STATUS of a plugin that is ready prints nothing",
    section: "2, STATUS",
    since: "1.1.0",
    async run(subject) {
      subject.expectSilence(await subject.node("STATUS"), "STATUS");
    },
  },
  {
    name: "stdout holds JSON and nothing else, whatever the outcome",
    section: "2, Execution Protocol",
    since: "0.1.0",
    async run(subject) {
      const container = await subject.container();
      const verbs = isAtLeast(subject.version, "1.1.0") ? ["ADD", "CHECK", "STATUS", "DEL"] : ["ADD", "DEL"];
      for (const verb of [...verbs, "NONSENSE"]) {
        const { stdout } = await container.call(verb);
        const isEmpty = stdout.trim() === "";
        if (!isEmpty && !isObject(parseObject(stdout))) throw new Violation(`${verb} printed ${excerpt(stdout)}`);
      }
    },
  },
];

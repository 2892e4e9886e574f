// SPDX-License-Identifier: Apache-2.0
import { isAtLeast } from "../cni/input/versions.ts";
import type { Check } from "./model.ts";
import { isObject, parseObject } from "./shapes.ts";
import { excerpt, type Subject } from "./subject.ts";
import type { Answer } from "./types.ts";
import { Violation } from "./verdicts.ts";

/** VERSION, and calls that cannot succeed. Source of the codes: CNI SPEC 1.1.0, section 5, Error. */

const INCOMPATIBLE_VERSION = 1;
const INVALID_ENVIRONMENT = 4;
const DECODING_FAILURE = 6;
const INVALID_CONFIGURATION = 7;

interface BadEnvironment {
  readonly name: string;
  readonly verb?: string;
  readonly since?: Check["since"];
  readonly variable: string;
  readonly value?: string;
}

function refusesEnvironment({ name, verb = "ADD", since = "0.1.0", variable, value }: BadEnvironment): Check {
  return {
    name: `${name} is refused with code 4`,
    section: "2, Parameters",
    since,
    async run(subject) {
      const container = await subject.container();
      const answer = await container.call(verb, { [variable]: value });
      subject.expectError(answer, verb, INVALID_ENVIRONMENT);
    },
  };
}

const ENVIRONMENT_CHECKS: readonly Check[] = [
  { name: "ADD without CNI_CONTAINERID", variable: "CNI_CONTAINERID" },
  { name: "ADD without CNI_NETNS", variable: "CNI_NETNS" },
  { name: "ADD without CNI_IFNAME", variable: "CNI_IFNAME" },
  { name: "ADD with a CNI_CONTAINERID of wrong characters", variable: "CNI_CONTAINERID", value: "a/b" },
  // The first character has a rule of its own since then.
  {
    name: "ADD with a CNI_CONTAINERID that begins with a hyphen",
    variable: "CNI_CONTAINERID",
    value: "-a",
    since: "0.4.0" as const,
  },
  { name: "ADD with a CNI_IFNAME of 16 bytes", variable: "CNI_IFNAME", value: "interface-name-0" },
  { name: "ADD with a CNI_IFNAME of wrong characters", variable: "CNI_IFNAME", value: "eth/0" },
  { name: "DEL without CNI_CONTAINERID", verb: "DEL", variable: "CNI_CONTAINERID" },
  { name: "DEL without CNI_IFNAME", verb: "DEL", variable: "CNI_IFNAME" },
  ...["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"].map((variable) => ({
    ...{ name: `CHECK without ${variable}`, verb: "CHECK", since: "0.4.0" as const, variable },
  })),
  { name: "an unknown CNI_COMMAND", variable: "CNI_COMMAND", value: "FROBNICATE" },
].map(refusesEnvironment);

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
  {
    // A runtime asks so to find out which version to use.
    name: "VERSION asked in a version that the plugin does not know lists those that it does",
    section: "5, VERSION Success",
    since: "0.1.0",
    async run(subject) {
      const answer = await subject.call({ CNI_COMMAND: "VERSION" }, JSON.stringify({ cniVersion: "9.9.9" }));
      subject.expectSuccess(answer, "VERSION");
      const { supportedVersions } = parseObject(answer.stdout) ?? {};
      if (!Array.isArray(supportedVersions) || !supportedVersions.includes(subject.version))
        throw new Violation(`supportedVersions is ${JSON.stringify(supportedVersions)}`);
    },
  },
  ...ENVIRONMENT_CHECKS,
  {
    name: "a refusal with code 4 names the variable",
    section: "5, Error",
    since: "0.4.0",
    async run(subject) {
      const container = await subject.container();
      for (const variable of ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]) {
        const answer = await container.call("ADD", { [variable]: undefined });
        subject.expectError(answer, `ADD without ${variable}`, INVALID_ENVIRONMENT);
        const { msg, details } = parseObject(answer.stdout) ?? {};
        if (!`${String(msg)} ${String(details)}`.includes(variable))
          throw new Violation(`ADD without ${variable} answered ${excerpt(answer.stdout)}`);
      }
    },
  },
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
    name: "ADD with a network name that begins with a hyphen is refused with code 7",
    section: "1, Configuration format",
    // The first specification to say of what a name consists.
    since: "1.0.0",
    async run(subject) {
      const container = await subject.container();
      subject.expectError(await container.call("ADD", {}, { name: "-net" }), "ADD", INVALID_CONFIGURATION);
    },
  },
  {
    name: "ADD takes the keys that runtimes insert",
    section: "3, Deriving request configuration",
    since: "0.3.1",
    async run(subject) {
      const inserted = { runtimeConfig: {}, args: { cni: {} }, "cni.dev/conformance": [{ a: 1 }] };
      const answer = await (await subject.container()).call("ADD", {}, inserted);
      subject.expectSuccess(answer, "ADD");
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

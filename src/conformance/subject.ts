// SPDX-License-Identifier: Apache-2.0
import { type CNIVersion, isAtLeast } from "../cni/input/versions.ts";
import { complainOfError, parseObject } from "./shapes.ts";
import type { Answer, Conf, Link, Machine } from "./types.ts";
import { NotApplicable, Violation } from "./verdicts.ts";

/** A name for a variable of the environment, with the value to give it; undefined leaves it out. */
export type Changes = Readonly<Record<string, string | undefined>>;

/**
 * One check's view of the plugin: containers of its own, calls in one version of the specification, and the complaints
 * that most checks share. `cleanUp` sends the DELs that a check left out.
 */
export class Subject {
  readonly version: CNIVersion;
  readonly #machine: Machine;
  readonly #conf: Conf;
  readonly #args: string;
  readonly #pluginPath: string;
  readonly #nextID: () => string;
  readonly #containers: Container[] = [];

  constructor(given: {
    machine: Machine;
    conf: Conf;
    version: CNIVersion;
    /** CNI_ARGS of every call. */
    args: string;
    pluginPath: string;
    nextID: () => string;
  }) {
    this.version = given.version;
    this.#machine = given.machine;
    this.#conf = given.conf;
    this.#args = given.args;
    this.#pluginPath = given.pluginPath;
    this.#nextID = given.nextID;
  }

  get machine(): Machine {
    return this.#machine;
  }

  /** The configuration in the version of this run. */
  conf(more: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> {
    return { ...this.#conf, cniVersion: this.version, ...more };
  }

  /** A new namespace and container ID; nothing is attached yet. */
  async container(): Promise<Container> {
    const container = new Container(this, this.#nextID(), await this.#machine.addNamespace());
    this.#containers.push(container);
    return container;
  }

  /** A call that names no container: GC, STATUS, VERSION. */
  node(command: string, more: Readonly<Record<string, unknown>> = {}): Promise<Answer> {
    return this.call({ CNI_COMMAND: command }, JSON.stringify(this.conf(more)));
  }

  call(changes: Changes, stdin: string): Promise<Answer> {
    const env: Changes = { CNI_PATH: this.#pluginPath, CNI_ARGS: this.#args, ...changes };
    const set = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
    return this.#machine.call(Object.fromEntries(set), stdin);
  }

  withArgs(more: string): string {
    return this.#args === "" ? more : `${this.#args};${more}`;
  }

  async cleanUp(): Promise<void> {
    for (const container of this.#containers) {
      for (const ifName of container.ifNames) await container.call("DEL", { CNI_IFNAME: ifName });
      await this.#machine.removeNamespace(container.netns);
    }
  }

  /** @throws Violation unless the answer is success without a word on stdout */
  expectSilence(answer: Answer, what: string): void {
    this.expectSuccess(answer, what);
    if (answer.stdout.trim() !== "") throw new Violation(`${what} printed ${excerpt(answer.stdout)}, want nothing`);
  }

  /** @throws Violation */
  expectSuccess(answer: Answer, what: string): void {
    if (answer.exitCode !== 0) throw new Violation(`${what} failed: ${describe(answer)}`);
  }

  /**
   * An error object of the specification with, if given, this code.
   *
   * @throws Violation
   */
  expectError(answer: Answer, what: string, code?: number): void {
    if (answer.exitCode === 0) throw new Violation(`${what} succeeded, want an error`);
    const problem = complainOfError(answer.stdout);
    if (problem !== undefined) throw new Violation(`${what}: ${problem}`);
    const found = parseObject(answer.stdout)?.["code"];
    if (code !== undefined && found !== code)
      throw new Violation(`${what} answered code ${String(found)}, want ${code}`);
  }
}

/** A container of a check. */
export class Container {
  readonly id: string;
  readonly netns: string;
  /** Of every ADD that was sent. */
  readonly ifNames: Set<string> = new Set();
  readonly #subject: Subject;

  constructor(subject: Subject, id: string, netns: string) {
    this.#subject = subject;
    this.id = id;
    this.netns = netns;
  }

  call(command: string, changes: Changes = {}, more: Readonly<Record<string, unknown>> = {}): Promise<Answer> {
    return this.send(command, changes, JSON.stringify(this.#subject.conf(more)));
  }

  /** With a standard input that is not a configuration. */
  send(command: string, changes: Changes, stdin: string): Promise<Answer> {
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: this.id,
      CNI_NETNS: this.netns,
      CNI_IFNAME: "eth0",
      ...changes,
    };
    if (command === "ADD" && env.CNI_IFNAME !== undefined) this.ifNames.add(env.CNI_IFNAME);
    return this.#subject.call(env, stdin);
  }

  /** An ADD that has to succeed. @throws Violation */
  async add(ifName = "eth0"): Promise<Readonly<Record<string, unknown>>> {
    const answer = await this.call("ADD", { CNI_IFNAME: ifName });
    this.#subject.expectSuccess(answer, "ADD");
    const result = parseObject(answer.stdout);
    if (result === undefined) throw new Violation(`ADD printed ${excerpt(answer.stdout)}, want one JSON object`);
    return result;
  }

  /** @throws NotApplicable for a plugin that makes no interface, such as one for IPAM */
  async addLink(ifName = "eth0"): Promise<{ readonly result: Readonly<Record<string, unknown>>; readonly link: Link }> {
    const result = await this.add(ifName);
    const link = await this.link(ifName);
    if (link !== undefined) return { result, link };
    if (isAtLeast(this.#subject.version, "0.3.0") && result["interfaces"] !== undefined)
      throw new Violation(`ADD answered interfaces, but the namespace has no ${ifName}`);
    throw new NotApplicable("the plugin makes no interface");
  }

  async link(ifName = "eth0"): Promise<Link | undefined> {
    return (await this.#subject.machine.links(this.netns)).find(({ name }) => name === ifName);
  }
}

export function excerpt(text: string): string {
  return JSON.stringify(text.length > 160 ? `${text.slice(0, 160)}…` : text);
}

function describe({ exitCode, stdout, stderr }: Answer): string {
  const error = parseObject(stdout);
  if (typeof error?.["msg"] === "string") return `code ${String(error["code"])}, ${error["msg"]}`;
  return `exit status ${exitCode}, ${excerpt(stdout === "" ? stderr : stdout)}`;
}

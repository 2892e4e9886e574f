// SPDX-License-Identifier: Apache-2.0
import { NftError } from "./errors.ts";
import type { PacketFilterPort } from "./ports.ts";
import { outlineOf } from "./render.ts";
import type { Layout } from "./table.ts";

/**
 * The table as maps, with the few habits of nft that the agent depends on: a script is done whole or not at all, an element
 * that is not there cannot be deleted. It reads the scripts that `render.ts` writes and nothing else.
 */
export class FakeNft implements PacketFilterPort {
  /** Scripts that were carried out. */
  readonly scripts: string[] = [];
  listings = 0;
  /** Makes a call fail. */
  refuse: ((call: "list" | "apply" | "check", script: string) => Error | undefined) | undefined;
  readonly counters: Map<string, number> = new Map();
  readonly #watchers = new Set<(damage: readonly string[]) => void>();
  #sets: Map<string, Set<string>> | undefined;
  #objects: object[] = [];

  /** Elements by set; undefined: there is no table. What a test changes in it, others have changed. */
  get sets(): Map<string, Set<string>> | undefined {
    return this.#sets;
  }

  async list(): Promise<string | undefined> {
    this.listings++;
    this.#mayRefuse("list", "");
    if (this.#sets === undefined) return undefined;
    const counters = [...this.counters].map(([name, packets]) => ({ counter: { name, packets } }));
    const sets = [...this.#sets].map(([name, elements]) => ({
      set: { name, type: typeOf(name), flags: ["interval"], elem: [...elements].map(elementOf) },
    }));
    return JSON.stringify({ nftables: [{ table: { name: "gingham" } }, ...counters, ...sets, ...this.#objects] });
  }

  async apply(script: string): Promise<void> {
    this.#mayRefuse("apply", script);
    if (script.startsWith("add table")) this.#replace(script);
    else this.#change(script);
    this.scripts.push(script);
  }

  async check(script: string): Promise<void> {
    this.#mayRefuse("check", script);
  }

  watch(onChange: (damage: readonly string[]) => void): () => void {
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }

  /** The kernel tells of what others did. Without it nobody notices before the next reading. */
  notify(...damage: readonly string[]): void {
    for (const onChange of this.#watchers) onChange(damage);
  }

  /** What others do: `nft delete table inet gingham`. */
  deleteTable(): void {
    this.#sets = undefined;
    this.#objects = [];
  }

  /** What others do: a rule is deleted. */
  deleteRule(): void {
    this.#objects.pop();
  }

  /** Whether chains and rules are those of the layout. */
  has(layout: Layout): boolean {
    const rules = [...outlineOf(layout)].filter(([place]) => place.startsWith("rule"));
    const shown = JSON.stringify(this.#objects);
    return rules.every(([, comment]) => shown.includes(comment)) && shown.match(/"rule"/g)?.length === rules.length;
  }

  #replace(script: string): void {
    this.counters.clear();
    this.#sets = new Map();
    this.#objects = [];
    let chain = "";
    for (const line of script.split("\n")) {
      const [, kind, name = ""] = /^\t(counter|set|chain) (\S+) /.exec(line) ?? [];
      if (kind === "counter") this.counters.set(name, 0);
      if (kind === "set") this.#sets.set(name, new Set(elementsIn(line)));
      if (kind === "chain") {
        chain = name;
        this.#objects.push({ chain: { name } });
      }
      const hook = /^\t\ttype (\S+) hook (\S+) priority (\S+); policy (\S+);/.exec(line);
      if (hook !== null) {
        this.#objects.pop();
        const [, type, at, prio, policy] = hook;
        this.#objects.push({ chain: { name: chain, type, hook: at, prio: Number(prio), policy } });
      }
      const comment = /^\t\t.* comment "([^"]+)"$/.exec(line)?.[1];
      if (comment !== undefined) this.#objects.push({ rule: { chain, comment } });
    }
  }

  #change(script: string): void {
    const sets = new Map([...(this.#sets ?? [])].map(([name, elements]) => [name, new Set(elements)]));
    for (const line of script.trim().split("\n")) {
      const [, verb, name = ""] = /^(add|delete) element inet gingham (\S+) /.exec(line) ?? [];
      const set = sets.get(name);
      if (set === undefined) throw new NftError(`No such set: ${line}`);
      for (const element of elementsIn(line)) {
        if (verb === "add") set.add(element);
        else if (!set.delete(element)) throw new NftError(`element does not exist: ${element}`);
      }
    }
    this.#sets = sets;
  }

  #mayRefuse(call: "list" | "apply" | "check", script: string): void {
    const error = this.refuse?.(call, script);
    if (error !== undefined) throw error;
  }
}

function elementsIn(line: string): readonly string[] {
  return /\{ ([^{}]*) \}(?: \})?$/.exec(line.replace(/^\tset \S+ \{/, ""))?.[1]?.split(", ") ?? [];
}

function typeOf(set: string): string | readonly string[] {
  const address = set.endsWith("v4") ? "ipv4_addr" : "ipv6_addr";
  return set.startsWith("allowed-sources") ? ["ifname", address] : address;
}

/** nft prints an element of one address without its length. */
function elementOf(text: string): unknown {
  const [first = "", ...rest] = text.split(" . ");
  if (rest.length > 0) return { concat: [first.slice(1, -1), ...rest.map(elementOf)] };
  const [addr, len] = text.split("/");
  return len === "32" || len === "128" ? addr : { prefix: { addr, len: Number(len) } };
}

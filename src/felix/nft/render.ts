// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { type ActualTable, type Chain, type Elements, type Hook, type Layout, type Rule, TABLE_NAME } from "./table.ts";

/** How nft is told which table is meant. */
const TABLE = `inet ${TABLE_NAME}`;

const NO_ELEMENTS: ReadonlySet<string> = new Set();

/**
 * Writes a script that replaces the whole table. nft sends it as one transaction, so every packet meets the old table or
 * the new one; what connections have been translated to is in connection tracking and stays.
 */
export function renderTable(layout: Layout, elements: Elements): string {
  const lines = [
    // So that deleting it succeeds where there is none; nft 1.0.6 has no `destroy`.
    `add table ${TABLE}`,
    `delete table ${TABLE}`,
    `table ${TABLE} {`,
    ...layout.counters.map((name) => `\tcounter ${name} { }`),
    ...Object.entries(layout.sets).map(([name, type]) => {
      const content = [...(elements.get(name) ?? NO_ELEMENTS)];
      const filled = content.length === 0 ? "" : ` elements = { ${content.join(", ")} }`;
      return `\tset ${name} { type ${type}; flags interval;${filled} }`;
    }),
    ...layout.chains.flatMap(renderChain),
    "}",
  ];
  return `${lines.join("\n")}\n`;
}

function renderChain({ name, hook, rules }: Chain): readonly string[] {
  const base = hook && `\t\ttype ${hook.type} hook ${hook.hook} priority ${hook.priority}; policy accept;`;
  const texts = rules.map((rule) => `\t\t${rule.text} comment "${commentOf(rule)}"`);
  return [`\tchain ${name} {`, ...(base === undefined ? [] : [base]), ...texts, "\t}"];
}

/**
 * Writes a script that takes the sets' elements from what is to what should be, and touches nothing else. Deletions come
 * first, since a network may take the place of those inside it; nft sends it all as one transaction.
 *
 * @returns undefined when there is nothing to do
 */
export function renderDifference(actual: Elements, desired: Elements): string | undefined {
  const deletions: string[] = [];
  const additions: string[] = [];
  for (const name of new Set([...actual.keys(), ...desired.keys()])) {
    const [is, shall] = [actual.get(name) ?? NO_ELEMENTS, desired.get(name) ?? NO_ELEMENTS];
    const [surplus, missing] = [[...is.difference(shall)], [...shall.difference(is)]];
    if (surplus.length > 0) deletions.push(`delete element ${TABLE} ${name} { ${surplus.join(", ")} }`);
    if (missing.length > 0) additions.push(`add element ${TABLE} ${name} { ${missing.join(", ")} }`);
  }
  const lines = [...deletions, ...additions];
  return lines.length === 0 ? undefined : `${lines.join("\n")}\n`;
}

/**
 * What of a table has to be the same for the kernel to do the same, elements apart, by its place. A rule is known by its
 * comment, which has a digest of its text: nft prints rules in other words than it was given.
 */
export function outlineOf(layout: Layout): ReadonlyMap<string, string> {
  const outline = new Map<string, string>([["table", ""]]);
  for (const name of layout.counters) outline.set(`counter ${name}`, "");
  for (const [name, type] of Object.entries(layout.sets)) outline.set(`set ${name}`, setOutline(type, ["interval"]));
  for (const { name, hook, rules } of layout.chains) {
    outline.set(`chain ${name}`, chainOutline(hook && { ...hook, policy: "accept" }));
    for (const [i, rule] of rules.entries()) outline.set(`rule ${i + 1} of chain ${name}`, commentOf(rule));
  }
  return outline;
}

export function setOutline(type: string, flags: readonly string[]): string {
  return `${type} ${flags.join(" ")}`;
}

export function chainOutline(hook: (Hook & { readonly policy: string }) | undefined): string {
  return hook === undefined ? "" : `${hook.type} ${hook.hook} ${hook.priority} ${hook.policy}`;
}

/** Names each difference between two outlines. */
export function compareOutlines(
  actual: ReadonlyMap<string, string>,
  desired: ReadonlyMap<string, string>,
): readonly string[] {
  const missing = [...desired.keys()].filter((place) => !actual.has(place)).map((place) => `${place} missing`);
  const changed = [...desired].filter(([place, value]) => actual.has(place) && actual.get(place) !== value);
  const surplus = [...actual.keys()].filter((place) => !desired.has(place)).map((place) => `${place} unknown`);
  return [...missing, ...changed.map(([place]) => `${place} changed`), ...surplus];
}

/** Names each difference between what was known of a table and what it is now. */
export function compareTables(
  before: Pick<ActualTable, "outline" | "elements">,
  now: Pick<ActualTable, "outline" | "elements"> | undefined,
): readonly string[] {
  if (now === undefined) return ["table missing"];
  const changes = [...compareOutlines(now.outline, before.outline)];
  for (const [name, had] of before.elements) {
    const has = now.elements.get(name);
    // A set that is missing has been named.
    if (has === undefined) continue;
    changes.push(...[...had.difference(has)].map((element) => `element ${element} of set ${name} missing`));
    changes.push(...[...has.difference(had)].map((element) => `element ${element} of set ${name} unknown`));
  }
  return changes;
}

function commentOf({ text, why }: Rule): string {
  return `${why} [${createHash("sha256").update(text).digest("hex").slice(0, 8)}]`;
}

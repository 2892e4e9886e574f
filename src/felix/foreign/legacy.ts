// SPDX-License-Identifier: Apache-2.0

const OWN_CHAIN = /^:(cali-\S+) /;
/** A rule of another chain that is Calico's: it leads to one of these chains, or has Calico's mark in its comment. */
const OWN_RULE = /^-A (?!cali-).*(?:-[jg] cali-|--comment "?cali:)/;

/** Whether `iptables-legacy -S FORWARD` tells of Calico: its agent's first rule is there. */
export function isCalicoInLegacy(forward: string): boolean {
  return forward.split("\n").some((line) => OWN_RULE.test(line));
}

/**
 * Renders what takes Calico's chains out of iptables of the old kind, of which nft shows nothing, with the rules that lead there: for
 * `iptables-legacy-restore --noflush`, each table in one transaction, and nothing of others in it.
 *
 * @param saved what `iptables-legacy-save` prints
 * @returns an empty text when there is nothing of Calico's
 */
export function renderLegacyRemoval(saved: string): string {
  const tables = saved.split(/^(?=\*)/m).flatMap((text) => {
    const lines = text.split("\n");
    const names = lines.flatMap((line) => OWN_CHAIN.exec(line)?.[1] ?? []);
    const rules = lines.filter((line) => OWN_RULE.test(line)).map((line) => line.replace(/^-A /, "-D "));
    if (!text.startsWith("*") || names.length + rules.length === 0) return [];
    return [lines[0], ...rules, ...names.map((name) => `-F ${name}`), ...names.map((name) => `-X ${name}`), "COMMIT"];
  });
  return tables.map((line) => `${line}\n`).join("");
}

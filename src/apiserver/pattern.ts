// SPDX-License-Identifier: Apache-2.0

/**
 * Compiles a schema's pattern, which is written for Go. What differs from JavaScript and is in use, in Calico's own
 * definitions too, are flags in the midst of a group, as in `^(?i)(Drop|Accept)?$`: they hold up to the group's end.
 *
 * @throws SyntaxError. Source: https://github.com/google/re2/wiki/Syntax, "set flags within current group".
 */
export function compilePattern(pattern: string): RegExp {
  return new RegExp(scopeFlags(pattern), "u");
}

/** An escape, a class, flags, an opening, a closing, an alternative. */
const TOKEN = /\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?([ims]+)\)|\(|\)|\|/gsu;

/** Writes `(?i)rest` as `(?i:rest)`, alternative by alternative, since a group around them all would join them. */
function scopeFlags(pattern: string): string {
  // For each group that is open, the flags that were set in it so far.
  const groups: string[][] = [[]];
  const closed = (): string => ")".repeat(groups.at(-1)?.length ?? 0);
  const text = pattern.replace(TOKEN, (token: string, flags?: string) => {
    if (flags !== undefined) {
      groups.at(-1)?.push(flags);
      return `(?${flags}:`;
    }
    if (token === "|") return `${closed()}|${(groups.at(-1) ?? []).map((set) => `(?${set}:`).join("")}`;
    if (token === "(") groups.push([]);
    if (token !== ")" || groups.length === 1) return token;
    const end = closed();
    groups.pop();
    return `${end})`;
  });
  return text + closed();
}

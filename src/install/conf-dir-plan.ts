// SPDX-License-Identifier: Apache-2.0
import type { ConfFile } from "./ports.ts";

/** What happens to configurations of other networks. */
export type Others = "keep" | "rename";

export type ConfDirStep =
  | { readonly kind: "write"; readonly name: string; readonly text: string; readonly was: "missing" | "different" }
  | { readonly kind: "rename"; readonly name: string; readonly to: string }
  | { readonly kind: "remove"; readonly name: string };

export interface ConfDirPlan {
  /** Shape: ours is there before another goes, so that the runtime is never without a network. */
  readonly steps: readonly ConfDirStep[];
  /** Files that come before ours all the same: the runtime uses the first. */
  readonly before: readonly string[];
}

export interface ConfDirWish {
  readonly name: string;
  readonly text: string;
  readonly others: Others;
}

export const BACKUP_SUFFIX = ".gingham-bak";

/** What libcni reads; all else in the folder is nobody's. */
const EXTENSIONS = [".conf", ".conflist", ".json"];
/** They come first on purpose, and call the next network themselves. */
const DELEGATING = ["multus", "multus-shim"];
/** Tried in turn, for a name that comes before all others. */
const PREFIXES = ["05-", "00-", "00-00-"];

/**
 * Makes ours the first file of the folder, and the only one of ours, with as little change as possible.
 *
 * A runtime takes the first file in the order of names. So ours goes by a lower number where others are kept and one of them would
 * come first (`10-calico.conflist` comes before `10-gingham.conflist`), and by its own name once that is enough. A file that nobody
 * can parse counts: a runtime that meets it first has no network at all.
 *
 * Idempotent: of its own outcome it has nothing to change.
 */
export function planConfDir(files: readonly ConfFile[], { name, text, others }: ConfDirWish): ConfDirPlan {
  const read = files.filter((file) => EXTENSIONS.some((extension) => file.name.endsWith(extension)));
  const foreign = read.filter((file) => !isOwn(file, name));
  const rivals = foreign.filter((file) => !DELEGATING.includes(typesOf(file)[0] ?? "")).map((file) => file.name);
  const taken = new Set(foreign.map((file) => file.name));
  const candidates = others === "rename" ? [name] : [name, ...PREFIXES.map((prefix) => prefix + baseOf(name))];
  const isFirst = (candidate: string): boolean => rivals.every((rival) => candidate < rival) && !taken.has(candidate);
  const chosen = candidates.find(isFirst) ?? name;
  const present = files.find((file) => file.name === chosen);
  const steps: ConfDirStep[] = [];
  if (present?.text !== text)
    steps.push({ kind: "write", name: chosen, text, was: present === undefined ? "missing" : "different" });
  for (const file of read)
    if (file.name !== chosen && isOwn(file, name)) steps.push({ kind: "remove", name: file.name });
  if (others === "rename")
    steps.push(...rivals.map((rival) => ({ kind: "rename", name: rival, to: rival + BACKUP_SUFFIX }) as const));
  return { steps, before: others === "rename" ? [] : rivals.filter((rival) => rival < chosen) };
}

/** Takes ours away, and gives others their names back where nobody has taken these. */
export function planConfDirRemoval(files: readonly ConfFile[], name: string): readonly ConfDirStep[] {
  const names = new Set(files.map((file) => file.name));
  const own = files.filter((file) => isOwn(file, name));
  const backups = files.filter((file) => file.name.endsWith(BACKUP_SUFFIX));
  return [
    ...backups.flatMap((file) => {
      const to = file.name.slice(0, -BACKUP_SUFFIX.length);
      return names.has(to) ? [] : [{ kind: "rename", name: file.name, to } as const];
    }),
    ...own.map((file) => ({ kind: "remove", name: file.name }) as const),
  ];
}

function baseOf(name: string): string {
  return name.replace(/^[\d-]+/, "");
}

/** By name alone, whatever somebody has made of its content. */
function isOwn({ name }: ConfFile, own: string): boolean {
  return baseOf(name) === baseOf(own);
}

/** The types of a file's plugins; none if it is no network configuration. */
function typesOf({ text }: ConfFile): readonly string[] {
  try {
    const value = JSON.parse(text ?? "") as { type?: unknown; plugins?: readonly { type?: unknown }[] };
    return (value.plugins ?? [value]).flatMap(({ type }) => (typeof type === "string" ? [type] : []));
  } catch {
    return [];
  }
}

// SPDX-License-Identifier: Apache-2.0
import { formatCIDR, hostCIDR, parseCIDR } from "../../net/cidr.ts";
import { parseIP } from "../../net/ip.ts";
import { chainOutline, setOutline } from "./render.ts";
import type { ActualTable, Hook } from "./table.ts";

/** The parts of nft's JSON that are read. Source: libnftables-json(5). */
interface NftObject {
  readonly name?: string;
  readonly chain?: string;
  readonly comment?: string;
  readonly type?: string | readonly string[];
  readonly flags?: string | readonly string[];
  readonly hook?: string;
  readonly prio?: number;
  readonly policy?: string;
  readonly packets?: number;
  readonly elem?: readonly NftElement[];
}

type NftElement =
  | string
  | { readonly prefix: { readonly addr: string; readonly len: number } }
  | { readonly range: readonly [string, string] }
  | { readonly concat: readonly NftElement[] }
  | { readonly elem: { readonly val: NftElement } };

/** No table of ours looks like this one, so whoever compares writes the table anew. */
const UNREADABLE: ActualTable = {
  outline: new Map([["table", "unreadable"]]),
  elements: new Map(),
  counters: new Map(),
};

/**
 * Reads what `nft -j list table` prints. Objects of kinds that the agent never makes are in the outline, too, so that
 * they show as a difference; and so does what cannot be read at all.
 */
export function parseTable(json: string): ActualTable {
  try {
    const { nftables } = JSON.parse(json) as { readonly nftables: readonly Readonly<Record<string, NftObject>>[] };
    return readObjects(nftables.flatMap((entry) => Object.entries(entry)));
  } catch {
    return UNREADABLE;
  }
}

function readObjects(objects: readonly (readonly [kind: string, object: NftObject])[]): ActualTable {
  const outline = new Map<string, string>();
  const elements = new Map<string, ReadonlySet<string>>();
  const counters = new Map<string, number>();
  const rules = new Map<string, number>();
  for (const [kind, object] of objects) {
    const { name = "", chain = "", comment = "", type = "", flags = [] } = object;
    switch (kind) {
      case "metainfo":
        break;
      case "table":
        // A table of ours has no flag. nft 1.0.6 prints some text of its own memory where "dormant" should be.
        outline.set(kind, object.flags === undefined ? "" : "flagged");
        break;
      case "rule": {
        const number = (rules.get(chain) ?? 0) + 1;
        rules.set(chain, number);
        outline.set(`rule ${number} of chain ${chain}`, comment);
        break;
      }
      case "chain":
        outline.set(`chain ${name}`, chainOutline(hookOf(object)));
        break;
      case "set":
        outline.set(`set ${name}`, setOutline([type].flat().join(" . "), [flags].flat()));
        elements.set(name, new Set((object.elem ?? []).map(formatElement)));
        break;
      case "counter":
        outline.set(`counter ${name}`, "");
        counters.set(name, object.packets ?? 0);
        break;
      default:
        outline.set(`${kind} ${name}`, "");
    }
  }
  return { outline, elements, counters };
}

function hookOf({ type, hook, prio = 0, policy = "" }: NftObject): (Hook & { policy: string }) | undefined {
  // Compared as text with what is desired, so a type or hook that is none of ours is only another text.
  return hook === undefined ? undefined : ({ type, hook, priority: prio, policy } as Hook & { policy: string });
}

/** Writes an element as `elements.ts` does, and one of a form that is not used there in words that differ from all of those. */
function formatElement(element: NftElement): string {
  if (typeof element === "string") return formatCIDR(hostCIDR(parseIP(element)));
  if ("prefix" in element) return formatCIDR(parseCIDR(`${element.prefix.addr}/${element.prefix.len}`));
  if ("range" in element) return element.range.join("-");
  if ("elem" in element) return formatElement(element.elem.val);
  const [iface, ...rest] = element.concat;
  return [JSON.stringify(iface), ...rest.map(formatElement)].join(" . ");
}

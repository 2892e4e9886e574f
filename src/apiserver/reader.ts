// SPDX-License-Identifier: Apache-2.0
import type { Entry } from "./entry.ts";
import { badRequest, expired, notFound, tooNew } from "./errors.ts";
import type { JsonObject } from "./model.ts";
import type { Presenter } from "./presenter.ts";
import { numberFrom } from "./request.ts";
import { type ResourceDef, storageKey } from "./resource.ts";
import { type Matcher, parseFieldSelector, parseLabelSelector } from "./selector.ts";
import type { Store } from "./store.ts";

/** Which objects of a resource a list, a watch or a delete-collection means. */
export interface Selection {
  readonly resource: string;
  /** Every key of the selection begins with this. */
  readonly prefix: string;
  /** Set when the selection can hold this one key only. */
  readonly key: string | undefined;
  /** Absent: all of them. */
  readonly matches: Matcher | undefined;
}

/** @throws StatusError 400 for a selector that cannot be read. */
export function selectionOf(def: ResourceDef, namespace: string, name: string, query: URLSearchParams): Selection {
  const prefix = def.namespaced && namespace !== "" ? `${namespace}/` : "";
  const labels = parseLabelSelector(query.get("labelSelector") ?? "");
  const fields = parseFieldSelector(
    query.get("fieldSelector") ?? "",
    def.selectableFields,
    `${def.group}/${def.version}, Kind=${def.kind}`,
  );
  const byName: Matcher | undefined = name === "" ? undefined : (object) => object.metadata.name === name;
  const matchers = [labels, fields?.matches, byName].filter((m) => m !== undefined);
  const one = name === "" ? fields?.name : name;
  const hasKey = one !== undefined && (!def.namespaced || namespace !== "");
  return {
    resource: storageKey(def),
    prefix,
    key: hasKey ? prefix + one : undefined,
    matches: matchers.length === 0 ? undefined : (object) => matchers.every((m) => m(object)),
  };
}

export function select(store: Store, selection: Selection): readonly Entry[] {
  const { resource, prefix, key, matches } = selection;
  const one = key === undefined ? undefined : store.get(resource, key);
  const entries = key === undefined ? store.list(resource, prefix) : one === undefined ? [] : [one];
  return matches === undefined ? entries : entries.filter((e) => matches(e.object));
}

interface Page {
  readonly entries: readonly Entry[];
  readonly revision: number;
}

/** Units: lists in parts that the server remembers at once; the oldest is forgotten first. */
const MAX_PAGED_LISTS = 200;

/** Reads: never touch the disk, never wait. */
export class Reader {
  readonly #store: Store;
  /** The rest of each list that was answered in part: entries do not change, so this is a consistent snapshot. */
  readonly #pages = new Map<string, Page>();
  #nextPage = 1;

  constructor(store: Store) {
    this.#store = store;
  }

  /** @throws StatusError 404. */
  get(def: ResourceDef, namespace: string, name: string): Entry {
    const entry = this.#store.get(storageKey(def), def.namespaced ? `${namespace}/${name}` : name);
    if (entry === undefined) throw notFound(def, name);
    return entry;
  }

  /** @throws StatusError 400, 410 for a page or a version that is no longer there, 504 for one from the future. */
  list(selection: Selection, query: URLSearchParams, presenter: Presenter): string {
    const token = query.get("continue") ?? "";
    const page = token === "" ? this.#firstPage(selection, query) : this.#page(token);
    const limit = numberFrom(query, "limit") ?? 0;
    const metadata: JsonObject = { resourceVersion: String(page.revision) };
    if (limit === 0 || page.entries.length <= limit) return presenter.list(page.entries, metadata);
    const rest = { entries: page.entries.slice(limit), revision: page.revision };
    metadata["continue"] = this.#remember(rest);
    if (selection.matches === undefined) metadata["remainingItemCount"] = rest.entries.length;
    return presenter.list(page.entries.slice(0, limit), metadata);
  }

  #firstPage(selection: Selection, query: URLSearchParams): Page {
    const { revision } = this.#store;
    const wanted = numberFrom(query, "resourceVersion") ?? 0;
    const match = query.get("resourceVersionMatch") ?? "";
    if (match !== "" && match !== "Exact" && match !== "NotOlderThan") {
      throw badRequest(
        `resourceVersionMatch: Unsupported value: "${match}": supported values: "Exact", "NotOlderThan"`,
      );
    }
    if (wanted > revision) throw tooNew(String(wanted), revision);
    if (match === "Exact" && wanted !== revision) {
      throw expired(`The resourceVersion for the provided list is too old: ${wanted} (${revision})`);
    }
    return { entries: select(this.#store, selection), revision };
  }

  #remember(page: Page): string {
    const token = Buffer.from(`${page.revision}:${this.#nextPage++}`).toString("base64url");
    this.#pages.set(token, page);
    const oldest = this.#pages.keys().next().value;
    if (this.#pages.size > MAX_PAGED_LISTS && oldest !== undefined) this.#pages.delete(oldest);
    return token;
  }

  #page(token: string): Page {
    const page = this.#pages.get(token);
    if (page !== undefined) return page;
    throw expired(
      "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
    );
  }
}

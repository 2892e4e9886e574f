// SPDX-License-Identifier: Apache-2.0
import { stringifyJSON } from "../lib/json.ts";
import type { Entry } from "./entry.ts";
import type { ApiObject, JsonObject } from "./model.ts";
import type { Presentation } from "./request.ts";
import { apiVersionOf, type ResourceDef } from "./resource.ts";
import { toPartial, toTable } from "./table.ts";

/** Turns stored entries into the form and version that a client asked for. The stored text is reused where it fits. */
export class Presenter {
  readonly #def: ResourceDef;
  readonly #as: Presentation;
  readonly #nowMs: () => number;
  #isFirstTable = true;

  constructor(def: ResourceDef, as: Presentation, nowMs: () => number) {
    this.#def = def;
    this.#as = as;
    this.#nowMs = nowMs;
  }

  one(entry: Entry): string {
    switch (this.#as.kind) {
      case "object":
        return this.#text(entry);
      case "metadata":
        return stringifyJSON(toPartial(entry.object));
      case "table":
        return this.#table([entry], { resourceVersion: entry.object.metadata.resourceVersion });
      default:
        return this.#as satisfies never;
    }
  }

  list(entries: readonly Entry[], metadata: JsonObject): string {
    if (this.#as.kind === "table") return this.#table(entries, metadata);
    const isMetadata = this.#as.kind === "metadata";
    const head = {
      kind: isMetadata ? "PartialObjectMetadataList" : `${this.#def.kind}List`,
      apiVersion: isMetadata ? "meta.k8s.io/v1" : apiVersionOf(this.#def),
      metadata,
    };
    const items = entries.map((e) => (isMetadata ? stringifyJSON(toPartial(e.object)) : this.#text(e)));
    return `${stringifyJSON(head).slice(0, -1)},"items":[${items.join(",")}]}`;
  }

  /** The object of a bookmark: nothing but a type and how far the watch is. */
  bookmark(revision: number, endsInitialEvents: boolean): string {
    const metadata: JsonObject = { resourceVersion: String(revision), creationTimestamp: null };
    if (endsInitialEvents) metadata["annotations"] = { "k8s.io/initial-events-end": "true" };
    if (this.#as.kind === "table") return this.#table([], { resourceVersion: String(revision) });
    return stringifyJSON({ kind: this.#def.kind, apiVersion: apiVersionOf(this.#def), metadata });
  }

  #table(entries: readonly Entry[], metadata: JsonObject): string {
    const include = this.#as.kind === "table" ? this.#as.include : "None";
    const table = toTable(
      entries.map((e) => this.#versioned(e.object)),
      metadata,
      { columns: this.#def.columns, include, nowMs: this.#nowMs(), withDefinitions: this.#isFirstTable },
    );
    this.#isFirstTable = false;
    return stringifyJSON(table);
  }

  #text(entry: Entry): string {
    return entry.object.apiVersion === apiVersionOf(this.#def)
      ? entry.text
      : stringifyJSON(this.#versioned(entry.object));
  }

  /** A CRD with several versions converts by changing the version alone, as Kubernetes' strategy None does. */
  #versioned(object: ApiObject): ApiObject {
    const apiVersion = apiVersionOf(this.#def);
    return object.apiVersion === apiVersion ? object : { ...object, apiVersion };
  }
}

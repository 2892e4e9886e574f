// SPDX-License-Identifier: Apache-2.0

import { describeError } from "../lib/errors.ts";
import { stringifyJSON } from "../lib/json.ts";
import type { Entry, StoreEvent } from "./entry.ts";
import { badRequest, expired, internal, invalid, type StatusError } from "./errors.ts";
import type { ApiObject } from "./model.ts";
import type { Presenter } from "./presenter.ts";
import { type Selection, select } from "./reader.ts";
import { isTrue, numberFrom } from "./request.ts";
import type { ResourceDef } from "./resource.ts";
import type { Store } from "./store.ts";

export interface WatchOptions {
  /** Undefined: tell what is there first, then go on from now. */
  readonly from: number | undefined;
  readonly sendsInitialEvents: boolean;
  readonly allowsBookmarks: boolean;
  /** Units: milliseconds until the server ends the watch. */
  readonly timeoutMs: number;
}

/** A watch without a time limit ends after 30 to 60 minutes, so that the watches of many clients spread out. */
const MIN_TIMEOUT_MS = 1_800_000;

/** @throws StatusError 400 or 422. Source: Kubernetes API concepts, Efficient detection of changes. */
export function parseWatchOptions(def: ResourceDef, query: URLSearchParams, random: () => number): WatchOptions {
  const version = query.get("resourceVersion") ?? "";
  if (!/^\d{0,15}$/.test(version))
    throw badRequest(`Invalid value: "${version}": resourceVersion must be a whole number`);
  const sendInitialEvents = query.get("sendInitialEvents");
  const sendsInitialEvents = isTrue(query, "sendInitialEvents");
  const match = query.get("resourceVersionMatch");
  if (sendInitialEvents !== null && match !== "NotOlderThan") {
    const message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    throw invalid(def, "", [{ reason: "FieldValueForbidden", message, field: "resourceVersionMatch" }]);
  }
  const hasVersion = version !== "" && version !== "0";
  const startsNow = !hasVersion && sendInitialEvents !== null && !sendsInitialEvents;
  const seconds = numberFrom(query, "timeoutSeconds") ?? 0;
  return {
    from: hasVersion && !sendsInitialEvents ? Number(version) : startsNow ? Number.POSITIVE_INFINITY : undefined,
    sendsInitialEvents,
    allowsBookmarks: isTrue(query, "allowWatchBookmarks"),
    timeoutMs: seconds > 0 ? seconds * 1000 : MIN_TIMEOUT_MS * (1 + random()),
  };
}

/** Where the lines of a watch go. */
export interface Sink {
  write(text: string): void;
  end(): void;
}

/** One client's watch: what is there, what happened since, what happens. */
export class Watch {
  readonly #store: Store;
  readonly #selection: Selection;
  readonly #presenter: Presenter;
  readonly #options: WatchOptions;
  readonly #sink: Sink;
  #stopListening: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(store: Store, selection: Selection, presenter: Presenter, options: WatchOptions, sink: Sink) {
    this.#store = store;
    this.#selection = selection;
    this.#presenter = presenter;
    this.#options = options;
    this.#sink = sink;
  }

  /** Synchronous, so that no change falls between what is told and what is listened to. */
  start(): void {
    const { from, sendsInitialEvents, timeoutMs } = this.#options;
    const { revision, log } = this.#store;
    if (from === undefined) {
      const entries = select(this.#store, this.#selection);
      this.#sink.write(entries.map((e) => line("ADDED", this.#presenter.one(e))).join(""));
      if (sendsInitialEvents) this.#sink.write(line("BOOKMARK", this.#presenter.bookmark(revision, true)));
    } else if (from < log.horizon || (from > revision && from !== Number.POSITIVE_INFINITY)) {
      // A version that this server never gave is from another life of it: the client must start over as well.
      this.#fail(expired(`too old resource version: ${from} (${Math.max(log.horizon, 1)})`));
      return;
    } else if (from < revision) {
      this.#tell(log.since(from));
    }
    this.#stopListening = log.listen((events) => this.#tellSafely(events));
    this.#timer = setTimeout(() => this.end(), timeoutMs);
    this.#timer.unref();
  }

  bookmark(): void {
    if (!this.#options.allowsBookmarks || this.#stopListening === undefined) return;
    this.#sink.write(line("BOOKMARK", this.#presenter.bookmark(this.#store.revision, false)));
  }

  end(): void {
    this.bookmark();
    this.stop();
    this.#sink.end();
  }

  /** Stops without a word: the client is gone. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#stopListening?.();
    this.#stopListening = undefined;
  }

  #fail(error: StatusError): void {
    const status = error.toStatus();
    this.#sink.write(line("ERROR", stringifyJSON(status)));
    this.#sink.end();
  }

  /** Runs inside of a commit: what goes wrong for one watch must reach neither the writers nor the other watches. */
  #tellSafely(events: readonly StoreEvent[]): void {
    try {
      this.#tell(events);
    } catch (error) {
      this.stop();
      this.#fail(internal(describeError(error), error));
    }
  }

  #tell(events: readonly StoreEvent[]): void {
    const { resource, prefix, key } = this.#selection;
    let text = "";
    for (const event of events) {
      const { entry } = event;
      if (entry.resource !== resource || (key === undefined ? !entry.key.startsWith(prefix) : entry.key !== key))
        continue;
      text += this.#lineOf(event);
    }
    if (text !== "") this.#sink.write(text);
  }

  #lineOf({ type, entry, previous }: StoreEvent): string {
    const { matches } = this.#selection;
    if (matches === undefined) return line(type, this.#presenter.one(entry));
    const was = previous !== undefined && matches(previous.object);
    const is = type !== "DELETED" && matches(entry.object);
    if (is) return line(was ? "MODIFIED" : "ADDED", this.#presenter.one(entry));
    return was ? line("DELETED", this.#presenter.one(withRevision(previous, entry.revision))) : "";
  }
}

function line(type: string, object: string): string {
  return `{"type":"${type}","object":${object}}\n`;
}

/** What a selector loses sight of is told in the state in which it was last seen, under the number of the change. */
function withRevision(entry: Entry, revision: number): Entry {
  const metadata = { ...entry.object.metadata, resourceVersion: String(revision) };
  const object: ApiObject = { ...entry.object, metadata };
  return { ...entry, revision, object, text: stringifyJSON(object) };
}

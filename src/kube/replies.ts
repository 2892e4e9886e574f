// SPDX-License-Identifier: Apache-2.0
import { InvalidObjectError } from "../crds/errors.ts";
import type { KubeObject, Resource } from "../crds/object.ts";
import { parseJSON } from "../lib/json.ts";
import type { ListResult, WatchEvent } from "./api.ts";
import { type CallTarget, type FailureStatus, kubeErrorOf, type StatusCause } from "./errors.ts";
import type { Answer } from "./exchange.ts";

type Raw = Readonly<Record<string, unknown>>;

function rawOf(value: unknown): Raw {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Raw) : {}; // just checked
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** Gives an object its type. Kinds of Kubernetes' own have been checked by their server. @throws InvalidObjectError */
export function parseObject<T extends KubeObject>(resource: Resource<T>, raw: unknown): T {
  if (resource.parse !== undefined) return resource.parse(raw);
  const { name } = rawOf(rawOf(raw)["metadata"]);
  if (textOf(name) === undefined) throw new InvalidObjectError(resource.kind, "", "metadata.name", name, "a name");
  // Items of lists lack both, and a type that they have is the resource's.
  const apiVersion = resource.group === "" ? resource.version : `${resource.group}/${resource.version}`;
  return { apiVersion, kind: resource.kind, ...rawOf(raw) } as unknown as T;
}

export interface ListPage<T> extends ListResult<T> {
  /** What asks for the next page; absent on the last one. */
  readonly next: string | undefined;
}

/** @throws SyntaxError when it is no list at all. */
export function parseListPage<T extends KubeObject>(resource: Resource<T>, raw: unknown): ListPage<T> {
  const list = rawOf(raw);
  const metadata = rawOf(list["metadata"]);
  const given = list["items"] ?? [];
  const resourceVersion = textOf(metadata["resourceVersion"]);
  if (!Array.isArray(given) || resourceVersion === undefined) throw new SyntaxError("The answer is no list of objects");
  const items: T[] = [];
  const invalid: InvalidObjectError[] = [];
  for (const item of given) {
    const parsed = parsedOrError(resource, item);
    if (parsed instanceof InvalidObjectError) invalid.push(parsed);
    else items.push(parsed);
  }
  return { items, invalid, resourceVersion, next: textOf(metadata["continue"]) };
}

/** @throws KubeError for an ERROR event, GoneError among them; SyntaxError when it is no event. */
export function parseWatchLine<T extends KubeObject>(
  resource: Resource<T>,
  target: CallTarget,
  raw: unknown,
): WatchEvent<T> {
  const { type, object } = rawOf(raw);
  switch (type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED": {
      const parsed = parsedOrError(resource, object);
      return parsed instanceof InvalidObjectError ? { type: "INVALID", error: parsed } : { type, object: parsed };
    }
    case "BOOKMARK": {
      const resourceVersion = textOf(rawOf(rawOf(object)["metadata"])["resourceVersion"]);
      if (resourceVersion !== undefined) return { type, resourceVersion };
      throw new SyntaxError("The bookmark has no resourceVersion");
    }
    case "ERROR":
      throw kubeErrorOf(target, statusOf(rawOf(object)));
    default:
      throw new SyntaxError(`Not a watch event: ${String(type)}`);
  }
}

/** What a bad answer says; one that is no Status, such as a proxy's page, keeps its HTTP status. */
export function failureOf({ status, text, retryAfterSeconds }: Answer): FailureStatus {
  let raw: Raw = {};
  try {
    raw = rawOf(parseJSON(text));
  } catch {
    // Not from the API server itself.
  }
  const said = raw["kind"] === "Status" ? statusOf(raw) : {};
  return { ...said, status, ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) };
}

function statusOf(raw: Raw): FailureStatus {
  const details = rawOf(raw["details"]);
  const causes = Array.isArray(details["causes"]) ? details["causes"].map((cause) => causeOf(rawOf(cause))) : [];
  const reason = textOf(raw["reason"]);
  const message = textOf(raw["message"]);
  const code = raw["code"];
  return {
    status: typeof code === "number" ? code : 500,
    causes,
    ...(reason === undefined ? {} : { reason }),
    ...(message === undefined ? {} : { message }),
  };
}

function causeOf(raw: Raw): StatusCause {
  const found = Object.entries({ reason: raw["reason"], message: raw["message"], field: raw["field"] });
  return Object.fromEntries(found.filter(([, value]) => typeof value === "string"));
}

function parsedOrError<T extends KubeObject>(resource: Resource<T>, raw: unknown): T | InvalidObjectError {
  try {
    return parseObject(resource, raw);
  } catch (error) {
    if (error instanceof InvalidObjectError) return error;
    throw error;
  }
}

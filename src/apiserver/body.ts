// SPDX-License-Identifier: Apache-2.0
import { parseJSON } from "../lib/json.ts";
import type { PatchBody } from "./apply.ts";
import { badRequest, unsupportedMediaType } from "./errors.ts";
import { parseYAML } from "./yaml.ts";

const PROTOBUF_HINT =
  "this server does not read protobuf, which kubectl sends for `kubectl create TYPE NAME` and `kubectl auth can-i`: " +
  "write the object as YAML and use `kubectl create -f FILE` or `kubectl apply -f FILE`; " +
  "in a Go program set ContentType of the rest.Config to application/json";

function mediaType(contentType: string | undefined): string {
  return (contentType ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

/** Reads the object of a create, an update or a delete. @throws StatusError 400 or 415. */
export async function parseObjectBody(text: string | undefined, contentType: string | undefined): Promise<unknown> {
  const type = mediaType(contentType);
  if (type === "application/vnd.kubernetes.protobuf") throw unsupportedMediaType(PROTOBUF_HINT);
  if (text === undefined || text === "") return undefined;
  if (type === "application/yaml") return readYAML(text);
  if (type !== "" && type !== "application/json") {
    throw unsupportedMediaType(`the content type ${type} is not read here: use application/json or application/yaml`);
  }
  return readJSON(text);
}

const PATCH_TYPES: ReadonlyMap<string, PatchBody["type"]> = new Map([
  ["application/json-patch+json", "json"],
  ["application/merge-patch+json", "merge"],
  ["application/strategic-merge-patch+json", "strategic"],
  ["application/apply-patch+yaml", "apply"],
]);

/** @throws StatusError 400 or 415. Custom resources have no strategic merge, as in Kubernetes. */
export async function parsePatchBody(
  text: string | undefined,
  contentType: string | undefined,
  options: { readonly hasStrategic: boolean; readonly force: boolean },
): Promise<PatchBody> {
  const type = PATCH_TYPES.get(mediaType(contentType));
  if (type === undefined || (type === "strategic" && !options.hasStrategic)) {
    const known = [...PATCH_TYPES.keys()].filter((t) => options.hasStrategic || PATCH_TYPES.get(t) !== "strategic");
    throw unsupportedMediaType(
      `the body of the request was in an unknown format - accepted media types include: ${known.join(", ")}`,
    );
  }
  if (text === undefined || text === "") throw badRequest("the patch is empty");
  const body = type === "apply" && !/^\s*\{/.test(text) ? await readYAML(text) : readJSON(text);
  return { type, body, force: options.force };
}

function readJSON(text: string): unknown {
  try {
    return parseJSON(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw badRequest(`the object provided is unrecognized: it is not JSON: ${why}`, { cause });
  }
}

async function readYAML(text: string): Promise<unknown> {
  let documents: readonly unknown[];
  try {
    documents = await parseYAML(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw badRequest(`the object provided is unrecognized: it is not YAML: ${why}`, { cause });
  }
  if (documents.length !== 1) throw badRequest(`the body holds ${documents.length} YAML documents, it must hold one`);
  return documents[0];
}

// SPDX-License-Identifier: Apache-2.0
import { unsupportedMediaType } from "./errors.ts";
import { type ApiObject, clone } from "./model.ts";
import { jsonPatch, mergePatch } from "./patch.ts";
import type { ResourceDef } from "./resource.ts";

export interface PatchBody {
  readonly type: "json" | "merge" | "strategic" | "apply";
  readonly body: unknown;
  readonly force: boolean;
}

/** The patched object, which shares nothing with the stored one. */
export function applyPatch(
  _def: ResourceDef,
  stored: ApiObject | undefined,
  patch: PatchBody,
  _manager: string,
  _time: string,
): unknown {
  switch (patch.type) {
    case "json":
      return jsonPatch(stored, patch.body);
    case "merge":
      return mergePatch(clone(stored), patch.body);
    case "strategic":
    case "apply":
      throw unsupportedMediaType("not yet");
    default:
      return patch.type satisfies never;
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Manager } from "./managed-fields.ts";
import { type ApiObject, clone } from "./model.ts";
import { jsonPatch, mergePatch } from "./patch.ts";
import type { ResourceDef } from "./resource.ts";
import { serverApply } from "./server-apply.ts";
import { strategicMerge } from "./strategic.ts";

export interface PatchBody {
  readonly type: "json" | "merge" | "strategic" | "apply";
  readonly body: unknown;
  /** Take over fields of other managers; for an apply alone. */
  readonly force: boolean;
}

export interface PatchContext {
  readonly manager: Manager;
  readonly subresource: string;
  /** RFC 3339. */
  readonly time: string;
}

/** The patched object, which shares nothing with the stored one. @throws StatusError 400, 409, 422 */
export function applyPatch(
  def: ResourceDef,
  stored: ApiObject | undefined,
  patch: PatchBody,
  context: PatchContext,
): unknown {
  switch (patch.type) {
    case "json":
      return jsonPatch(stored, patch.body);
    case "merge":
      return mergePatch(clone(stored), patch.body);
    case "strategic":
      return strategicMerge(clone(stored), patch.body, def.schema);
    case "apply":
      return serverApply(def, stored, patch.body, { ...context, force: patch.force });
    default:
      return patch.type satisfies never;
  }
}

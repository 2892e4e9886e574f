// SPDX-License-Identifier: Apache-2.0

import { write } from "./apply.ts";
import { diffObjects, type FieldChange } from "./diff.ts";
import { isOurs } from "./judge-pools.ts";
import type { Plan } from "./plan.ts";
import type { ClusterPort } from "./ports.ts";
import { nameOf } from "./render/manifest.ts";

/** What would become of one object. */
export interface Change {
  readonly object: string;
  readonly action: "create" | "change" | "keep" | "remove" | "extend" | "refused";
  readonly fields: readonly FieldChange[];
  /** Why it is refused. */
  readonly reason?: string;
}

/** Asks the API server what each write of a plan would do, and writes nothing. */
export async function previewPlan(plan: Plan, cluster: ClusterPort, signal: AbortSignal): Promise<readonly Change[]> {
  const changes: Change[] = plan.extendCRDs.map(({ crd, operations }) => ({
    object: nameOf(crd),
    action: "extend",
    fields: operations.map((operation) => {
      const { path, value } = operation as { readonly path: string; readonly value: unknown }; // As JSON Patch has it.
      return { path: path.slice(1).replaceAll("/", "."), from: undefined, to: value };
    }),
  }));
  for (const manifest of plan.steps.flat()) {
    const object = nameOf(manifest);
    const found = await cluster.get(manifest, signal);
    const live = found.kind === "ok" ? found.value : undefined;
    if (live !== undefined && !isOurs(live)) {
      changes.push({ object, action: "refused", fields: [], reason: "it is there, and the operator did not make it" });
      continue;
    }
    const outcome = await write(manifest, cluster, { dryRun: true, signal });
    if (live === undefined && (outcome.kind === "ok" || outcome.kind === "missing"))
      changes.push({ object, action: "create", fields: [] });
    else if (outcome.kind !== "ok") changes.push({ object, action: "refused", fields: [], reason: outcome.message });
    else if (live !== undefined) {
      const fields = diffObjects(live, outcome.value);
      changes.push({ object, action: fields.length === 0 ? "keep" : "change", fields });
    }
  }
  for (const object of plan.remove) changes.push({ object: nameOf(object), action: "remove", fields: [] });
  return changes;
}

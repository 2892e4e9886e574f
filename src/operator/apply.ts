// SPDX-License-Identifier: Apache-2.0
import type { KubeObject } from "../crds/object.ts";
import type { Clock } from "../lib/clock.ts";
import { isOurs } from "./judge-pools.ts";
import type { Plan } from "./plan.ts";
import type { ApplyOptions, ClusterPort, Outcome, Refusal } from "./ports.ts";
import { APPLY_AGAIN, type Problem, type ProblemReason } from "./problem.ts";
import { isMadeOnce, type Manifest, nameOf } from "./render/manifest.ts";

export interface ApplyTools {
  readonly cluster: ClusterPort;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

const REASONS: Readonly<Record<Refusal["kind"], ProblemReason>> = {
  forbidden: "Forbidden",
  invalid: "Rejected",
  missing: "Rejected",
  conflict: "APIServerAway",
  away: "APIServerAway",
};

/** Added to the server's words, and to what the client says to do. */
const REMEDIES: Readonly<Partial<Record<Refusal["kind"], string>>> = {
  forbidden: APPLY_AGAIN,
  missing: "apply the operator's manifest again, which has the namespace and the CRDs",
  invalid: "correct the field of the Installation that it comes from",
};

export function problemOf(object: KubeObject, { kind, message }: Refusal): Problem {
  const remedy = REMEDIES[kind];
  return {
    reason: REASONS[kind],
    field: nameOf(object),
    message: remedy === undefined ? message : `${message}; ${remedy}`,
  };
}

/**
 * Asks the API server about every object without writing any: so that what it refuses is known before the first change,
 * and nothing is half made.
 */
export async function preflight(plan: Plan, tools: ApplyTools): Promise<readonly Problem[]> {
  const { cluster, signal } = tools;
  const problems: Problem[] = [];
  for (const manifest of plan.steps.flat()) {
    const foreign = await foreignProblem(manifest, tools);
    if (foreign !== undefined) {
      problems.push(foreign);
      continue;
    }
    const outcome = await write(manifest, cluster, { dryRun: true, signal });
    // Its kind comes with a CRD of an earlier step, or the role that it binds, which the server looks up, does.
    const isEarly = manifest.kind.endsWith("Binding") || comesWithCRD(manifest, plan);
    if (outcome.kind === "ok" || (outcome.kind === "missing" && isEarly)) continue;
    problems.push(problemOf(manifest, outcome));
  }
  return problems;
}

/** Writes everything, step by step. A step in which something fails is the last one. */
export async function applyPlan(plan: Plan, tools: ApplyTools): Promise<readonly Problem[]> {
  const { cluster, signal } = tools;
  for (const { crd, operations } of plan.extendCRDs) {
    const outcome = await cluster.patchCRD(crd, operations, signal);
    if (outcome.kind !== "ok") return [problemOf(crd, outcome)];
  }
  for (const step of plan.steps) {
    const problems: Problem[] = [];
    for (const manifest of step) {
      const foreign = await foreignProblem(manifest, tools);
      const outcome = foreign === undefined ? await write(manifest, cluster, { signal }) : undefined;
      if (foreign !== undefined) problems.push(foreign);
      else if (outcome !== undefined && outcome.kind !== "ok") problems.push(problemOf(manifest, outcome));
    }
    if (problems.length > 0) return problems;
    const late = await awaitEstablished(step, tools);
    if (late !== undefined) return [late];
  }
  for (const object of plan.remove) {
    const outcome = await cluster.remove(object, signal);
    if (outcome.kind !== "ok") return [problemOf(object, outcome)];
  }
  return [];
}

/** By server-side apply, or once and for all: whoever made such an object before us has said what it shall be. */
export async function write(
  manifest: Manifest,
  cluster: ClusterPort,
  options: ApplyOptions,
): Promise<Outcome<KubeObject>> {
  if (!isMadeOnce(manifest)) return await cluster.apply(manifest, options);
  const outcome = await cluster.create(manifest, options);
  return outcome.kind === "conflict" ? { kind: "ok", value: manifest } : outcome;
}

/** What somebody else made under the name of an object of ours is not touched. */
async function foreignProblem(manifest: Manifest, { cluster, signal }: ApplyTools): Promise<Problem | undefined> {
  if (isMadeOnce(manifest)) return undefined;
  const found = await cluster.get(manifest, signal);
  if (found.kind !== "ok") return found.kind === "missing" ? undefined : problemOf(manifest, found);
  if (found.value === undefined || isOurs(found.value)) return undefined;
  return {
    reason: "NotOurs",
    field: nameOf(manifest),
    message:
      "it is there, and the operator did not make it (it lacks the label app.kubernetes.io/managed-by: gingham-operator): delete it, or label it so to hand it over",
  };
}

function comesWithCRD({ apiVersion, kind }: Manifest, { steps: [crds = []] }: Plan): boolean {
  const group = apiVersion.split("/", 1)[0] ?? "";
  return crds.some(({ spec }) => {
    const { group: of, names } = spec as { readonly group: string; readonly names: { readonly kind: string } };
    return of === group && names.kind === kind;
  });
}

const ESTABLISH_MS = 15_000;
const LOOK_MS = 200;

/** A kind is served a moment after its CRD was written. */
async function awaitEstablished(step: readonly Manifest[], tools: ApplyTools): Promise<Problem | undefined> {
  const { cluster, clock, signal } = tools;
  const deadlineMs = clock.nowMs() + ESTABLISH_MS;
  for (const crd of step.filter(({ kind }) => kind === "CustomResourceDefinition")) {
    for (;;) {
      const found = await cluster.get(crd, signal);
      if (found.kind === "ok" && isEstablished(found.value)) break;
      if (clock.nowMs() >= deadlineMs)
        return { reason: "APIServerAway", field: nameOf(crd), message: "it is not served yet; it is tried again" };
      await clock.sleep(LOOK_MS, signal);
    }
  }
  return undefined;
}

function isEstablished(crd: KubeObject | undefined): boolean {
  const { status } = (crd ?? {}) as {
    readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
  };
  return status?.conditions?.some(({ type, status: is }) => type === "Established" && is === "True") ?? false;
}

// SPDX-License-Identifier: Apache-2.0
import { mergeConditions } from "../controller/conditions.ts";
import { type Condition, type Installation, MANAGED_ANNOTATION } from "../crds/installation.ts";
import type { KubeObject } from "../crds/object.ts";
import { TIGERA_STATUS_NAME } from "../crds/tigera-status.ts";
import { aborted } from "../lib/aborted.ts";
import type { Clock } from "../lib/clock.ts";
import { applyPlan, preflight, problemOf } from "./apply.ts";
import { applyRollout } from "./apply-rollout.ts";
import { MANAGER } from "./judge-pools.ts";
import { chooseInstallation, type Plan, planInstallation, questionsOf, secondInstallation } from "./plan.ts";
import type { ClusterFacts, ClusterPort } from "./ports.ts";
import { type Problem, unreadableProblem } from "./problem.ts";
import { remove } from "./removal.ts";
import { isMadeOnce } from "./render/manifest.ts";
import { labelsOf } from "./render/names.ts";
import { conditionsOf, type Findings, installationConditionsOf } from "./status.ts";

/** Of the Installation: it stays until what belongs to it is gone. */
export const FINALIZER = "gingham.dev/operator";

/** Who hears of what the operator does. */
export interface OperatorReporter {
  /** After each pass that an Installation was there for. */
  passed(installation: string, findings: Findings): void;
  changed(what: string, fields: object): void;
  failed(error: unknown): void;
}

export interface OperatorOptions {
  readonly cluster: ClusterPort;
  /** What wakes it. */
  readonly source: { readonly synced: Promise<unknown> };
  readonly reporter: OperatorReporter;
  readonly clock: Clock;
  /** Our own, which the agents get unless the Installation says otherwise. */
  readonly image: string;
  /** Changes come in groups. Units: milliseconds. @default 500 */
  readonly settleMs?: number;
}

/** Without a change: what is not watched may have changed. */
const PERIOD_MS = 5 * 60_000;
/** While something is wrong or on its way. */
const SOON_MS = 10_000;
const SETTLE_MS = 500;
/** The time between two looks is at least this many times the length of one. */
const PACE = 1;
/** An agent whose node was healthy should be ready by then. */
const LATE_MS = 3 * 60_000;

/** Makes the cluster what the Installation says, again after every change: a pass looks at everything anew. */
export class Operator {
  readonly #options: OperatorOptions;
  #wake = new AbortController();
  /** The last plan that was wholly applied: one that is the same needs no preflight. */
  #applied = "";
  /** Since when each node has been waited for, by our own clock. */
  readonly #awaitedSince = new Map<string, number>();

  constructor(options: OperatorOptions) {
    this.#options = options;
  }

  /** Something has changed. */
  nudge(): void {
    this.#wake.abort();
  }

  /** Passes until the signal aborts. A pass that fails is told and tried again. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { source, reporter, clock, settleMs = SETTLE_MS } = this.#options;
    await Promise.race([source.synced, aborted(signal)]);
    while (!signal.aborted) {
      this.#wake = new AbortController();
      let isSettled = false;
      const startMs = clock.nowMs();
      try {
        isSettled = await this.pass(signal);
      } catch (error) {
        if (!signal.aborted) reporter.failed(error);
      }
      const tookMs = clock.nowMs() - startMs;
      const early = AbortSignal.any([signal, this.#wake.signal]);
      await clock.sleep(isSettled ? PERIOD_MS : SOON_MS, early).catch(() => {});
      // In a large cluster a look is long, and there is always something new.
      await clock.sleep(Math.max(settleMs, PACE * tookMs), signal).catch(() => {});
    }
  }

  /** One look, and the writes that follow from it. @returns false when it should be repeated soon */
  async pass(signal: AbortSignal): Promise<boolean> {
    const { cluster, image, clock } = this.#options;
    const facts = await cluster.facts(({ installations, pools }) => {
      const { active } = chooseInstallation(installations);
      return active === undefined ? { secrets: [], blocks: false } : questionsOf(active, pools, image);
    }, signal);
    const { active, others } = chooseInstallation(facts.installations);
    for (const former of formerOnes(facts.installations)) {
      // Whoever is told of nothing any more must not go on reading what was.
      if (active === undefined && hasFinalizer(former)) await this.#removeStatus(signal);
      await this.#letGo(former, signal);
    }
    if (active === undefined) return true;
    for (const other of others) await this.#refuse(other, active, signal);
    if (active.metadata.deletionTimestamp !== undefined) return await this.#remove(active, facts, signal);
    if (!hasFinalizer(active)) {
      const { finalizers = [] } = active.metadata;
      const outcome = await cluster.setFinalizers(active, [...finalizers, FINALIZER], signal);
      // The write wakes us; a conflict does, too.
      if (outcome.kind !== "ok") this.#options.reporter.failed(new Error(outcome.message));
      return false;
    }
    const plan = planInstallation({ installation: active, facts, image });
    const problems = [...plan.problems];
    if (problems.length === 0) problems.push(...(await this.#carryOut(plan, signal)));
    const workloads = await cluster.workloads(signal);
    problems.push(...workloads.unreadable.map(unreadableProblem));
    const state = { workloads, nodes: facts.nodes, maxUnavailable: plan.maxUnavailable };
    const { rollout, problems: more } =
      problems.length === 0
        ? await applyRollout(state, { cluster, clock, signal })
        : { rollout: undefined, problems: [] };
    const findings: Findings = {
      ...nothingOf(active),
      problems: [...problems, ...more],
      notes: plan.notes,
      ignored: plan.ignored,
      workloads,
      rollout,
      nodes: facts.nodes,
      late: this.#lateNodes((rollout?.waitsFor ?? []).map(({ node }) => node)),
    };
    const isWritten = await this.#report(active, findings, signal);
    return isWritten && findings.problems.length === 0 && (rollout?.changed.length ?? 0) === 0;
  }

  async #carryOut(plan: Plan, signal: AbortSignal): Promise<readonly Problem[]> {
    const { cluster, clock, reporter } = this.#options;
    const tools = { cluster, clock, signal };
    // What is only made, and never again, is missing the next time.
    const lasting = plan.steps.flat().filter((manifest) => !isMadeOnce(manifest));
    const key = JSON.stringify([lasting, plan.extendCRDs, plan.remove]);
    if (key !== this.#applied) {
      const problems = await preflight(plan, tools);
      if (problems.length > 0) return problems;
    }
    const problems = await applyPlan(plan, tools);
    if (problems.length === 0 && key !== this.#applied) {
      reporter.changed("The objects are as the Installation says", { objects: lasting.length });
      this.#applied = key;
    }
    return problems;
  }

  async #remove(installation: Installation, facts: ClusterFacts, signal: AbortSignal): Promise<boolean> {
    const { cluster, clock, reporter } = this.#options;
    if (!hasFinalizer(installation)) return true;
    this.#applied = "";
    const workloads = await cluster.workloads(signal);
    const { problems, waiting, kept } = await remove(facts, workloads, { cluster, clock, signal });
    if (problems.length > 0 || waiting !== undefined) {
      const findings = { ...nothingOf(installation), problems, workloads, nodes: facts.nodes };
      await this.#report(installation, { ...findings, ...(waiting !== undefined && { waiting }) }, signal);
      return false;
    }
    if (!(await this.#removeStatus(signal))) return false;
    if (!(await this.#letGo(installation, signal))) return false;
    reporter.changed("Everything was removed but the CRDs", { kept });
    return true;
  }

  async #removeStatus(signal: AbortSignal): Promise<boolean> {
    const { cluster, reporter } = this.#options;
    const gone = await cluster.remove(statusObject(), signal);
    if (gone.kind !== "ok") reporter.failed(new Error(gone.message));
    return gone.kind === "ok";
  }

  async #refuse(other: Installation, active: Installation, signal: AbortSignal): Promise<void> {
    const findings = { ...nothingOf(other), problems: [secondInstallation(active)] };
    await this.#write(other, installationConditionsOf(findings), signal);
    await this.#letGo(other, signal);
  }

  /** One that was in charge before, and is not any more, does not wait for us. */
  async #letGo(installation: Installation, signal: AbortSignal): Promise<boolean> {
    if (!hasFinalizer(installation)) return true;
    const { finalizers = [] } = installation.metadata;
    const others = finalizers.filter((name) => name !== FINALIZER);
    const outcome = await this.#options.cluster.setFinalizers(installation, others, signal);
    const isDone = outcome.kind === "ok" || outcome.kind === "missing";
    if (!isDone) this.#options.reporter.failed(new Error(outcome.message));
    return isDone;
  }

  async #report(installation: Installation, found: Findings, signal: AbortSignal): Promise<boolean> {
    const { cluster, reporter } = this.#options;
    const status = statusObject(installation);
    const made = await cluster.apply(status, { signal });
    const problems = made.kind === "ok" ? found.problems : [...found.problems, problemOf(status, made)];
    const findings = { ...found, problems };
    reporter.passed(installation.metadata.name, findings);
    const written = [
      // Whoever cannot read the one can read the other.
      made.kind === "ok" && (await this.#write(made.value, conditionsOf(findings), signal)),
      await this.#write(installation, installationConditionsOf(findings), signal),
    ];
    return written.every(Boolean);
  }

  async #write(object: KubeObject, wanted: readonly Condition[], signal: AbortSignal): Promise<boolean> {
    const { cluster, clock, reporter } = this.#options;
    const { status } = object as Installation;
    const conditions = mergeConditions(status?.conditions ?? [], wanted, clock.nowMs(), isSame);
    if (conditions === undefined) return true;
    const outcome = await cluster.writeConditions(object, conditions, signal);
    if (outcome.kind !== "ok") reporter.failed(new Error(outcome.message));
    return outcome.kind === "ok";
  }

  #lateNodes(awaited: readonly string[]): readonly string[] {
    const nowMs = this.#options.clock.nowMs();
    for (const node of [...this.#awaitedSince.keys()]) if (!awaited.includes(node)) this.#awaitedSince.delete(node);
    for (const node of awaited) if (!this.#awaitedSince.has(node)) this.#awaitedSince.set(node, nowMs);
    return awaited.filter((node) => nowMs - (this.#awaitedSince.get(node) ?? nowMs) >= LATE_MS);
  }
}

function hasFinalizer({ metadata: { finalizers = [] } }: Installation): boolean {
  return finalizers.includes(FINALIZER);
}

/** Whose annotation was taken off. */
function formerOnes(all: readonly Installation[]): readonly Installation[] {
  return all.filter(({ metadata }) => metadata.annotations?.[MANAGED_ANNOTATION] !== "true");
}

/** What is known of an Installation before anybody has looked at the cluster. */
function nothingOf({ metadata, status }: Installation): Findings {
  const available = status?.conditions?.find(({ type }) => type === "Available");
  return {
    generation: metadata.generation ?? 0,
    problems: [],
    notes: [],
    ignored: [],
    workloads: { daemonSet: undefined, deployment: undefined, pods: [], unreadable: [] },
    rollout: undefined,
    nodes: [],
    late: [],
    wasAvailable: available?.status === "True",
  };
}

function isSame(a: Condition, b: Condition): boolean {
  const fields = ["status", "reason", "message", "observedGeneration"] as const;
  return fields.every((field) => a[field] === b[field]);
}

function statusObject(owner?: Installation): KubeObject & { readonly spec?: object } {
  const { name, uid = "" } = owner?.metadata ?? { name: "" };
  const reference = { apiVersion: "operator.tigera.io/v1", kind: "Installation", name, uid, controller: true };
  return {
    apiVersion: "operator.tigera.io/v1",
    kind: "TigeraStatus",
    metadata: {
      name: TIGERA_STATUS_NAME,
      labels: labelsOf("gingham", MANAGER),
      ...(owner !== undefined && { ownerReferences: [reference] }),
    },
    spec: {},
  };
}

// SPDX-License-Identifier: Apache-2.0
import type { PluginRunner } from "../cni/delegation/types.ts";
import type { Finding } from "../felix/calc/findings.ts";
import type { Logger } from "../felix/ports.ts";
import type { Clock } from "../lib/clock.ts";
import { describeError } from "../lib/errors.ts";
import { backoffMs } from "../lib/retry.ts";
import { type ConfDirStep, type Others, planConfDir } from "./conf-dir-plan.ts";
import { parseTemplate, programsOf, renderConflist } from "./conflist.ts";
import { askVersions } from "./plugin-versions.ts";
import type { ConfDir } from "./ports.ts";

export interface ConflistKeeperOptions {
  readonly dir: ConfDir;
  readonly name: string;
  /** Reads what the file shall hold beside its versions. */
  readonly template: () => Promise<string>;
  readonly others: Others;
  readonly binDir: string;
  readonly runner: PluginRunner;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** The kernel tells of changes; this is for what it does not tell of, such as other content, or a folder made anew. */
const LOOK_EVERY_MS = 5000;
/** A disk that has room again tells nobody. */
const RETRY_MS = 2000;
/** Another program that writes the same file must not be raced: each repair soon after the last waits longer. */
const REPAIR_BACKOFF = { baseMs: 500, maxMs: 60_000 };
const CALM_AFTER_MS = 120_000;

/**
 * Keeps the runtime's network configuration in place: written when `run` is called, which is when the agent serves pods and not
 * before, since runtimes take the file for readiness; and again when somebody deletes or changes it.
 *
 * It stays when the agent ends: the launcher waits for the next agent, and a node that updates is no node without network.
 */
export class ConflistKeeper {
  readonly #options: ConflistKeeperOptions;
  #rendered: { readonly of: string; readonly text: string } | undefined;
  #problem: string | undefined = "not written yet";
  #before: readonly string[] = [];
  #repairs = 0;
  #repairedMs = Number.NEGATIVE_INFINITY;

  constructor(options: ConflistKeeperOptions) {
    this.#options = options;
  }

  /** For the readiness of the agent: without the file the runtime makes no pods. */
  check(): { readonly ok: boolean; readonly detail: string } {
    const { dir, name } = this.#options;
    return { ok: this.#problem === undefined, detail: this.#problem ?? `${dir.path}/${name} is in place` };
  }

  findings(): readonly Finding[] {
    const { dir } = this.#options;
    return this.#before.map((name) => {
      const subject = `${dir.path}/${name}`;
      const fix =
        "remove it, or set --cni-others rename (GINGHAM_CNI_OTHERS; of an Installation, gingham.dev/cni-others: rename)";
      return {
        code: "NetworkConfigNotFirst",
        subject,
        message: `${subject} comes first, so new pods get that network and not Gingham's: ${fix}`,
      };
    });
  }

  /** Resolves when the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      // Watched from before the look, so that no change falls in between.
      const watch = this.#options.dir.watch();
      try {
        await this.#look(signal);
        await watch.changed(this.#problem === undefined ? LOOK_EVERY_MS : RETRY_MS, signal);
      } finally {
        watch.close();
      }
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { dir, name, others, log } = this.#options;
    try {
      const wish = { name, text: await this.#render(), others };
      let plan = planConfDir(await dir.list(), wish);
      if (plan.steps.length > 0 && (await this.#waitForTurn(signal))) plan = planConfDir(await dir.list(), wish);
      if (signal.aborted) return;
      for (const step of plan.steps) {
        await carryOut(dir, step);
        log.info({ folder: dir.path, ...describeStep(step) }, "Network configuration changed");
      }
      if (plan.steps.length > 0) this.#repaired();
      this.#before = plan.before;
      this.#problem = undefined;
    } catch (err) {
      const problem = describeError(err);
      if (problem !== this.#problem)
        log.error({ err }, "The network configuration cannot be written; it is tried again");
      this.#problem = problem;
    }
  }

  /** Plugins are asked for their versions once: what updates them starts the agent anew. */
  async #render(): Promise<string> {
    const { template, runner, binDir } = this.#options;
    const of = await template();
    if (this.#rendered?.of === of) return this.#rendered.text;
    const parsed = parseTemplate(of);
    const text = renderConflist(parsed, await askVersions(runner, programsOf(parsed), binDir));
    this.#rendered = { of, text };
    return text;
  }

  #repaired(): void {
    this.#repairs++;
    this.#repairedMs = this.#options.clock.nowMs();
  }

  /** Says whether it waited, so that what was seen is old. */
  async #waitForTurn(signal: AbortSignal): Promise<boolean> {
    const { clock, random, log, dir } = this.#options;
    if (clock.nowMs() - this.#repairedMs > CALM_AFTER_MS) this.#repairs = 0;
    if (this.#repairs === 0 || this.#problem !== undefined) return false;
    const waitMs = Math.round(backoffMs(REPAIR_BACKOFF, this.#repairs, random()));
    log.warn({ folder: dir.path, waitMs }, "Somebody changed the network configurations; they are mended");
    await clock.sleep(waitMs, signal).catch(() => {});
    return true;
  }
}

async function carryOut(dir: ConfDir, step: ConfDirStep): Promise<void> {
  switch (step.kind) {
    case "write":
      return await dir.write(step.name, step.text);
    case "rename":
      return await dir.rename(step.name, step.to);
    case "remove":
      return await dir.remove(step.name);
    default:
      return step satisfies never;
  }
}

function describeStep(step: ConfDirStep): object {
  switch (step.kind) {
    case "write":
      return { wrote: step.name, was: step.was };
    case "rename":
      return { renamed: step.name, to: step.to };
    case "remove":
      return { removed: step.name };
    default:
      return step satisfies never;
  }
}

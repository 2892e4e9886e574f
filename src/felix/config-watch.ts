// SPDX-License-Identifier: Apache-2.0
import type { FelixConfiguration } from "../crds/felix-configuration.ts";
import { describeError } from "../lib/errors.ts";
import type { Finding } from "./calc/findings.ts";
import { type AgentConfig, type ResolvedConfig, resolveConfig } from "./config.ts";
import type { LocalConfig } from "./config-options.ts";
import type { Logger, Source } from "./ports.ts";

/** FelixConfigurations, also of an API server that has none, or does not show them. */
export interface ConfigObjects extends Source<FelixConfiguration> {
  /** Why they cannot be read, although there may be some. */
  readonly unreadable: string | undefined;
}

export interface ConfigWatchOptions {
  readonly local: LocalConfig;
  readonly objects: ConfigObjects;
}

/** What is read once, by flag: a socket that listens cannot be another one. */
const AT_START = ["health-host", "health-port", "metrics-host", "metrics-port"] as const;

/**
 * The agent's settings, as they are now.
 *
 * Invariants: `config` is what the sources say, whatever the order in which they were read; handlers hear of each change, and
 * before `known` is fulfilled of all that was known by then. What cannot change while the agent runs is told, and stays.
 */
export class ConfigWatch {
  /** Fulfilled when the cluster's settings have been read, or cannot be. */
  readonly known: Promise<void>;
  readonly #options: ConfigWatchOptions;
  readonly #stop: () => void;
  readonly #handlers: ((config: AgentConfig) => void)[] = [];
  #log: Logger | undefined;
  #resolved: ResolvedConfig;
  /** What the agent started with. */
  #started: ResolvedConfig;
  #fallen: Finding | undefined;

  /** @throws ConfigError when the agent's own flags or variables cannot be used */
  constructor(options: ConfigWatchOptions) {
    const { local, objects } = options;
    this.#options = options;
    this.#resolved = resolveConfig(local, objects.list());
    this.#started = this.#resolved;
    this.#stop = objects.onChange(() => this.#update());
    this.known = objects.synced.then(() => this.#update());
  }

  get config(): AgentConfig {
    return this.#resolved.config;
  }

  /** What the agent starts with; from now on, each change is logged, and told to the handler, which first hears of the present. */
  follow(log: Logger, handler: (config: AgentConfig) => void): void {
    this.#log = log;
    this.#handlers.push(handler);
    handler(this.config);
  }

  /** The present settings, for what cannot follow later changes. */
  take(): AgentConfig {
    this.#started = this.#resolved;
    return this.config;
  }

  /**
   * Does what is done once with settings. If these cannot be used, and the cluster has a say in them, those of the agent's own
   * flags and variables are tried: no object may keep an agent from running. Errors: those of the second try.
   */
  async once<T>(run: (config: AgentConfig) => Promise<T>): Promise<T> {
    const local = resolveConfig(this.#options.local);
    try {
      return await run(this.#started.config);
    } catch (error) {
      const others = AT_START.filter((name) => !isSame(this.#started, local, name));
      if (others.length === 0) throw error;
      const subject = others.flatMap((name) => this.#started.inForce.get(name)?.option ?? []).join(", ");
      const message = `${subject}: ${describeError(error)}; ignored: the agent's own settings hold`;
      this.#fallen = { code: "ConfigIgnored", subject, message };
      return await run(local.config);
    }
  }

  findings(): readonly Finding[] {
    const { unreadable } = this.#options.objects;
    return [
      ...(unreadable === undefined ? [] : [unreadableFinding(unreadable)]),
      ...this.#resolved.findings,
      ...(this.#fallen === undefined ? [] : [this.#fallen]),
      ...AT_START.flatMap((name) => this.#restartFinding(name)),
    ];
  }

  stop(): void {
    this.#stop();
  }

  #update(): void {
    const { local, objects } = this.#options;
    const before = this.#resolved;
    this.#resolved = resolveConfig(local, objects.list());
    const names = new Set([...before.inForce.keys(), ...this.#resolved.inForce.keys()]);
    const changed = [...names].filter((name) => !isSame(before, this.#resolved, name));
    for (const name of changed) {
      const given = this.#resolved.inForce.get(name);
      const fields = { setting: name, was: before.inForce.get(name)?.text, is: given?.text, from: given?.option };
      this.#log?.info(fields, `setting ${name} is now ${given === undefined ? "the default" : given.text}`);
    }
    // Findings may be others although no value is.
    for (const handler of this.#handlers) handler(this.config);
  }

  #restartFinding(name: (typeof AT_START)[number]): readonly Finding[] {
    if (isSame(this.#started, this.#resolved, name)) return [];
    const given = this.#resolved.inForce.get(name);
    const subject = given?.option ?? `--${name}`;
    const [now, then] = [given?.text ?? "the default", this.#started.inForce.get(name)?.text ?? "the default"];
    const message = `${subject}: is ${now} by now, and the agent runs with ${then}; restart it`;
    return [{ code: "ConfigNeedsRestart", subject, message }];
  }
}

function isSame(a: ResolvedConfig, b: ResolvedConfig, name: string): boolean {
  return a.inForce.get(name)?.text === b.inForce.get(name)?.text;
}

function unreadableFinding(why: string): Finding {
  const message = `FelixConfigurations cannot be read, so none of their settings counts: ${why}`;
  return { code: "ConfigUnreadable", subject: "FelixConfiguration", message };
}

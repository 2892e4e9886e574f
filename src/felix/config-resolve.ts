// SPDX-License-Identifier: Apache-2.0
import type { FelixConfiguration } from "../crds/felix-configuration.ts";
import { describeError } from "../lib/errors.ts";
import type { Finding } from "./calc/findings.ts";
import type { Given } from "./config-values.ts";
import { ConfigError } from "./errors.ts";

/** A place that values of options come from. */
export interface ConfigSource {
  /** Undefined: it says nothing of this option. @throws ConfigError when what it says is not even a text */
  get(name: string): Given | undefined;
  /** Whether a wrong value is an error to whoever starts the agent; else it is passed over, and told. */
  isStrict(name: string): boolean;
}

/** The last source: what holds when nobody says otherwise. */
const DEFAULT = "the default";

/**
 * Reads options out of sources, the first of which wins, each option by itself: a wrong value costs no other option, and
 * the next source's value holds in its place.
 */
export class ConfigReader<Name extends string> {
  readonly #sources: readonly ConfigSource[];
  readonly #fallback: (name: Name) => string;
  readonly #findings: Finding[] = [];
  readonly #inForce = new Map<Name, Given>();

  /** @param sources the first wins */
  constructor(sources: readonly ConfigSource[], fallback: (name: Name) => string) {
    this.#sources = sources;
    this.#fallback = fallback;
  }

  /** Errors: ConfigError of a strict source. */
  read<T>(name: Name, parse: (given: Given) => T): T {
    const wrong: ConfigError[] = [];
    for (const source of this.#sources) {
      try {
        const given = source.get(name);
        if (given === undefined) continue;
        const value = parse(given);
        this.#inForce.set(name, given);
        this.#tell(wrong, given.option);
        return value;
      } catch (error) {
        if (!(error instanceof ConfigError) || source.isStrict(name)) throw error;
        wrong.push(error);
      }
    }
    this.#tell(wrong, DEFAULT);
    return parse({ text: this.#fallback(name), option: `--${name}` });
  }

  /** Values that were passed over. */
  get findings(): readonly Finding[] {
    return this.#findings;
  }

  /** What was said of each option that has been read and has no default; with the name of who said it. */
  get inForce(): ReadonlyMap<Name, Given> {
    return this.#inForce;
  }

  #tell(wrong: readonly ConfigError[], holds: string): void {
    for (const error of wrong) {
      const message = `${describeError(error)}; ignored: ${holds} holds`;
      this.#findings.push({ code: "ConfigIgnored", subject: error.option, message });
    }
  }
}

/** The fields of a FelixConfiguration. @param fieldOf the field of an option, if it has one */
export function felixConfigurationSource(
  object: FelixConfiguration,
  fieldOf: (name: string) => string | undefined,
  isList: (name: string) => boolean = () => false,
): ConfigSource {
  return {
    get: (name) => {
      const field = fieldOf(name);
      const value = field === undefined ? undefined : (object.spec[field] ?? undefined);
      if (value === undefined || value === "" || (Array.isArray(value) && value.length === 0)) return undefined;
      const option = `FelixConfiguration ${object.metadata.name}: ${field}`;
      if (typeof value === "string") return { text: value, option };
      if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean")
        return { text: String(value), option };
      if (isList(name)) {
        if (Array.isArray(value) && value.every((one) => typeof one === "string"))
          return { text: value.join(","), option };
        throw new ConfigError(option, "want a list of texts");
      }
      throw new ConfigError(option, `got ${Array.isArray(value) ? "a list" : "an object"}, want a text or a number`);
    },
    isStrict: () => false,
  };
}

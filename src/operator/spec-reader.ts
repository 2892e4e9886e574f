// SPDX-License-Identifier: Apache-2.0
import { InvalidObjectError } from "../crds/errors.ts";
import { FieldReader } from "../crds/field-reader.ts";
import type { Problem } from "./problem.ts";

/** What all readers of one Installation have found. */
interface Found {
  readonly problems: Problem[];
  readonly sections: SpecReader[];
}

/**
 * Reads the fields of one section of a spec. What cannot be used is noted as a problem and counts as absent, so that one
 * look finds all that is wrong; what nobody read is known afterwards.
 */
export class SpecReader {
  readonly #installation: string;
  readonly #path: string;
  readonly #fields: FieldReader;
  readonly #found: Found;

  private constructor(installation: string, path: string, raw: unknown, found: Found) {
    this.#installation = installation;
    this.#path = path;
    this.#fields = new FieldReader("Installation", installation, path, raw);
    this.#found = found;
    found.sections.push(this);
  }

  static open(installation: string, spec: object): SpecReader {
    return new SpecReader(installation, "spec", spec, { problems: [], sections: [] });
  }

  /** Of all sections. */
  get problems(): readonly Problem[] {
    return this.#found.problems;
  }

  /** A section below this one; one that is not there is empty. */
  section(field: string): SpecReader {
    const path = `${this.#path}.${field}`;
    const raw = this.read((fields) => fields.nested(field, fields.value(field) ?? {}), undefined);
    return new SpecReader(
      this.#installation,
      path,
      raw === undefined ? {} : (this.#fields.value(field) ?? {}),
      this.#found,
    );
  }

  /** What `read` returns, or the fallback where it throws InvalidObjectError, which is noted. */
  read<T>(read: (fields: FieldReader) => T, fallback: T): T {
    try {
      return read(this.#fields);
    } catch (error) {
      if (!(error instanceof InvalidObjectError)) throw error;
      this.note({ reason: "InvalidField", field: error.field, message: error.words });
      return fallback;
    }
  }

  text(field: string, fallback: string): string {
    return this.read((fields) => fields.optionalString(field), undefined) || fallback;
  }

  integer(field: string, min: number, max: number, fallback: number): number {
    return this.read((fields) => fields.optionalInteger(field, min, max), undefined) ?? fallback;
  }

  oneOf<T extends string>(field: string, values: readonly T[], fallback: T): T {
    return this.read((fields) => fields.optionalEnum(field, values), undefined) ?? fallback;
  }

  isEnabled(field: string, fallback: boolean): boolean {
    return this.oneOf(field, ["Enabled", "Disabled"], fallback ? "Enabled" : "Disabled") === "Enabled";
  }

  texts(field: string): readonly string[] {
    return this.read((fields) => fields.strings(field), []);
  }

  labels(field: string): Readonly<Record<string, string>> {
    return this.read((fields) => fields.optionalStringMap(field), undefined) ?? {};
  }

  /** Refuses every value of the field but these, which change nothing. */
  refuseBut(field: string, values: readonly string[], instead: string): void {
    const value = this.text(field, "");
    if (value === "" || values.includes(value)) return;
    const message = `${JSON.stringify(value)}: ${instead}`;
    this.note({ reason: "UnsupportedField", field: `${this.#path}.${field}`, message });
  }

  note(...problems: readonly Problem[]): void {
    this.#found.problems.push(...problems);
  }

  /** Paths of the fields of all sections that nobody has read. */
  unread(): readonly string[] {
    return this.#found.sections.flatMap((section) =>
      Object.keys(section.#fields.unread()).map((field) => `${section.#path}.${field}`),
    );
  }
}

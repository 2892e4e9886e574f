// SPDX-License-Identifier: Apache-2.0
import { GinghamError } from "../lib/errors.ts";

/** A selector that cannot be read. */
export class SelectorError extends GinghamError {
  /** Where it went wrong: index into the text, from 0. */
  readonly position: number;
  /** What could have stood there. */
  readonly expected: string;

  constructor(text: string, position: number, expected: string) {
    const found = position >= text.length ? "the end" : JSON.stringify(text.slice(position, position + 12));
    super("InvalidSelector", `Selector ${shown(text)}: expected ${expected} at position ${position}, found ${found}`);
    this.position = position;
    this.expected = expected;
  }
}

function shown(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text);
}

// SPDX-License-Identifier: Apache-2.0
import { describeError } from "../lib/errors.ts";
import type { Family } from "../net/ip.ts";
import type { Finding } from "./calc/findings.ts";

/** Keeps the kernel's switches for forwarding on, and remembers when that is refused. */
export class Forwarding {
  readonly #enable: (families: readonly Family[]) => void;
  /** What was switched on last, and would be again. */
  #enabled = "";
  #error: Finding | undefined;

  constructor(enable: (families: readonly Family[]) => void) {
    this.#enable = enable;
  }

  /**
   * IPv6 only once a pool of it is there: a host that forwards IPv6 stops listening to router advertisements, and so may
   * lose its own default route.
   *
   * @param again although nothing has changed here: somebody else may have switched it off
   */
  enable(hasPoolOf: (family: Family) => boolean, again: boolean): void {
    const families = ([4, 6] as const).filter((family) => family === 4 || hasPoolOf(family));
    if (!again && families.join() === this.#enabled) return;
    this.#enabled = families.join();
    try {
      this.#enable(families);
      this.#error = undefined;
    } catch (error) {
      const subject = families.map((family) => `IPv${family}`).join(" and ");
      const message = `Cannot switch on forwarding of ${subject}: ${describeError(error)}; pods reach nothing beyond their node`;
      this.#error = { code: "ForwardingOff", subject, message };
    }
  }

  findings(): readonly Finding[] {
    return this.#error === undefined ? [] : [this.#error];
  }
}

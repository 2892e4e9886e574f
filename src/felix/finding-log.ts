// SPDX-License-Identifier: Apache-2.0
import type { Finding } from "./calc/findings.ts";

interface Known {
  readonly finding: Finding;
  readonly sinceMs: number;
  isTold: boolean;
}

/**
 * Decides which findings are news: each is told once when it has lasted, and once when it is over. Findings that
 * come and go within a moment (a pod's link between its ADD's steps) are never told.
 */
export class FindingLog {
  readonly #lastingMs: number;
  readonly #known = new Map<string, Known>();

  /** @param lastingMs how long a finding must last to be told. */
  constructor(lastingMs = 1000) {
    this.#lastingMs = lastingMs;
  }

  /** Takes the present findings. `againInMs`: when to ask again although nothing changed. */
  update(
    findings: readonly Finding[],
    nowMs: number,
  ): { readonly appeared: readonly Finding[]; readonly cleared: readonly Finding[]; readonly againInMs?: number } {
    const present = new Map(findings.map((finding) => [`${finding.code} ${finding.subject}`, finding]));
    const cleared: Finding[] = [];
    for (const [id, known] of this.#known) {
      if (present.has(id)) continue;
      this.#known.delete(id);
      if (known.isTold) cleared.push(known.finding);
    }
    const appeared: Finding[] = [];
    let againInMs = Number.POSITIVE_INFINITY;
    for (const [id, finding] of present) {
      const known = this.#known.get(id) ?? { finding, sinceMs: nowMs, isTold: false };
      this.#known.set(id, known);
      if (known.isTold) continue;
      const leftMs = known.sinceMs + this.#lastingMs - nowMs;
      if (leftMs > 0) againInMs = Math.min(againInMs, leftMs);
      else {
        known.isTold = true;
        appeared.push(finding);
      }
    }
    return { appeared, cleared, ...(againInMs === Number.POSITIVE_INFINITY ? {} : { againInMs }) };
  }
}

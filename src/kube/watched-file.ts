// SPDX-License-Identifier: Apache-2.0
import { readFileSync, statSync } from "node:fs";
import type { Clock } from "../lib/clock.ts";

/** How long a file may have changed unnoticed. Units: milliseconds. */
const CHECK_EVERY_MS = 3_000;

/**
 * A small file that others rotate: tokens, certificates, kubeconfigs. Reading costs nothing while it is unchanged.
 *
 * Synchronous on purpose: it is a stat of a file in memory once in some seconds, and callers need one consistent view.
 * Kubelet rotates by switching a symbolic link, so the inode tells as much as the time. While a rotation leaves the file
 * missing, the last text stays in use.
 */
export class WatchedFile {
  readonly path: string;
  readonly #clock: Clock;
  #text: string;
  #stamp: string;
  #checkedMs: number;

  /** @throws NodeJS.ErrnoException when it cannot be read the first time. */
  constructor(path: string, clock: Clock) {
    this.path = path;
    this.#clock = clock;
    this.#stamp = stampOf(path);
    this.#text = readFileSync(path, "utf8");
    this.#checkedMs = clock.nowMs();
  }

  read(): string {
    if (this.#clock.nowMs() - this.#checkedMs >= CHECK_EVERY_MS) this.check();
    return this.#text;
  }

  /** Looks at the file now, whatever the time. */
  check(): void {
    this.#checkedMs = this.#clock.nowMs();
    try {
      const stamp = stampOf(this.path);
      if (stamp === this.#stamp) return;
      this.#text = readFileSync(this.path, "utf8");
      this.#stamp = stamp;
    } catch {
      // Between two versions; the next check sees the new one, and a server that refuses the old one says so.
    }
  }
}

function stampOf(path: string): string {
  const { mtimeNs, ino, size } = statSync(path, { bigint: true });
  return `${mtimeNs}/${ino}/${size}`;
}

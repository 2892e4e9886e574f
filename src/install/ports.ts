// SPDX-License-Identifier: Apache-2.0

/** A file of the runtime's folder of network configurations. */
export interface ConfFile {
  readonly name: string;
  /** Absent: it cannot be read. */
  readonly text?: string;
}

/** The runtime's folder of network configurations. Implemented by `conf-dir.ts`. */
export interface ConfDir {
  readonly path: string;
  /** Makes the folder when it is not there. @throws InstallError, like all that follow */
  list(): Promise<readonly ConfFile[]>;
  /** Atomic: a reader sees the old file or the new one. */
  write(name: string, text: string): Promise<void>;
  /** Replaces a file of the new name. */
  rename(name: string, to: string): Promise<void>;
  /** Idempotent. */
  remove(name: string): Promise<void>;
  /** From now on, somebody's changes are noticed. */
  watch(): ConfDirWatch;
}

export interface ConfDirWatch {
  /** Resolves once something has changed since `watch()`, the time is up, or the signal aborts; never rejects. */
  changed(timeoutMs: number, signal: AbortSignal): Promise<void>;
  close(): void;
}

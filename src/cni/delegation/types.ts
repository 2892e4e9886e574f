// SPDX-License-Identifier: Apache-2.0

/**
 * An IPAM plugin that gives an attachment its addresses in Gingham's stead, and all that it takes to call it again: kept
 * in the attachment's record, since who undoes an attachment has often no runtime behind it.
 *
 * Source: CNI SPEC 1.1.0, Section 4.
 */
export interface Delegation {
  /** `ipam.type`: the executable's name in CNI_PATH. */
  readonly type: string;
  /** The CNI_* variables of the call; CNI_COMMAND is left out. */
  readonly env: Readonly<Record<string, string>>;
  /** The network configuration, for its stdin. */
  readonly conf: string;
  /** The JSON that it answered to ADD; absent until then. */
  readonly answer?: string;
}

/** One execution of a plugin. */
export interface Execution {
  readonly type: string;
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: string;
}

export interface Executed {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Executes plugins. Implemented by `exec-plugin.ts`. */
export interface PluginRunner {
  /**
   * Runs a plugin to its end. When the signal aborts, the plugin and its children are killed.
   *
   * @throws MissingPluginError, CNIError `Delegate` when it cannot be started, the signal's reason
   */
  run(execution: Execution, signal: AbortSignal): Promise<Executed>;
}

// SPDX-License-Identifier: Apache-2.0

/** A link of the host that may be a pod's. */
export interface HostLink {
  readonly ifIndex: number;
  readonly name: string;
}

/** What adoption looks at on the machine. */
export interface NodeSurvey {
  /** Links of the host whose names are a pod's. */
  podLinks(): Promise<readonly HostLink[]>;
  /** Paths of the namespaces that runtimes keep for their pods. */
  namespaces(): Promise<readonly string[]>;
}

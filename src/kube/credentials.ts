// SPDX-License-Identifier: Apache-2.0
import type { Agent } from "node:http";

export interface TLSMaterial {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly rejectUnauthorized?: boolean;
  readonly servername?: string;
}

/** Where the API server is and how to show who we are. What rotates is read anew with each call of a method. */
export interface KubeCredentials {
  readonly server: URL;
  /** Others of the same cluster, with the same certificates and credentials, in the order in which they are tried. */
  readonly otherServers?: readonly URL[];
  /** The namespace that the context or the service account names. */
  readonly namespace: string | undefined;
  /** The same object as long as nothing has changed, so that connections can be kept. */
  tls(): TLSMaterial;
  /** The headers that authenticate a request. */
  headers(): Promise<Readonly<Record<string, string>>>;
  /** Reads everything again, because the server has just refused what it got. */
  refresh(): void;
  /** Where a proxy is configured: the agent that goes through it, instead of direct connections. */
  readonly proxyAgent: Agent | undefined;
}

// SPDX-License-Identifier: Apache-2.0
import type { LabOptions } from "./options.ts";
import type { RPCMessage } from "./rpc.ts";
import type { ShellTarget } from "./state.ts";

/** What the process on the host tells the one in the sandbox, as one argument in JSON. */
export interface SandboxConfig {
  /** `tour`: show the laboratory to a person. `serve`: wait for calls. */
  readonly mode: "tour" | "serve";
  readonly options: LabOptions;
  /** The project's folder. */
  readonly root: string;
  /** Seen by both: see `state.ts`. */
  readonly stateDir: string;
  /** Where the host's kubectl gets its answers, on 127.0.0.1. */
  readonly hostPort: number;
}

/** What the two say to each other later. */
export type SandboxMessage =
  | RPCMessage
  | { readonly kind: "ready"; readonly targets: Readonly<Record<string, ShellTarget>> }
  | { readonly kind: "failed"; readonly message: string }
  | { readonly kind: "stop" };

export const KUBECONFIG_FILE = "kubeconfig";
export const SOCKET_FILE = "api.sock";

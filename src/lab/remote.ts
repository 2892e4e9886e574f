// SPDX-License-Identifier: Apache-2.0
import type { ChildProcess } from "node:child_process";
import type { EncapMode } from "../crds/ip-pool.ts";
import type { Family } from "../net/ip.ts";
import { FAMILIES } from "./families.ts";
import { DEFAULT_OPTIONS } from "./options.ts";
import { type Channel, connect } from "./rpc.ts";
import type { RunResult } from "./run.ts";
import type { SandboxMessage } from "./sandbox-config.ts";
import { openSession } from "./session.ts";
import type { LabControl, LabPod } from "./types.ts";

/** A laboratory that a program on the host controls: what the integration tests stand on. */
export interface RemoteLab extends LabControl {
  /** Works on the host, as long as the laboratory runs. */
  readonly kubeconfig: string;
  readonly nodes: readonly string[];
  /** Resolves when nothing is left. */
  stop(): Promise<void>;
}

export interface RemoteLabOptions {
  readonly root: string;
  readonly script: string;
  readonly nodes?: number;
  readonly pods?: number;
  readonly blockSize?: number;
  readonly families?: readonly Family[];
  readonly vxlan?: EncapMode;
}

/** Builds a laboratory with its agents and pods, with IPv4 alone unless told otherwise. @throws LabError */
export async function startLab({ root, script, ...changes }: RemoteLabOptions): Promise<RemoteLab> {
  const options = { ...DEFAULT_OPTIONS, families: FAMILIES.ipv4, ...changes };
  const session = await openSession({ mode: "serve", options, root, script });
  await session.ready;
  const call = connect(createChannel(session.child));
  // Both ends are of one build, and typed by LabControl.
  return {
    kubeconfig: session.kubeconfig,
    nodes: Array.from({ length: options.nodes }, (_, i) => `node-${i + 1}`),
    stop: () => session.stop(),
    exec: (...params) => call("exec", params) as Promise<RunResult>,
    kubectl: (...params) => call("kubectl", params) as Promise<RunResult>,
    addPod: (...params) => call("addPod", params) as Promise<LabPod>,
    delPod: (...params) => call("delPod", params) as Promise<void>,
    listPods: (...params) => call("listPods", params) as Promise<readonly LabPod[]>,
    killAgent: (...params) => call("killAgent", params) as Promise<void>,
    startAgent: (...params) => call("startAgent", params) as Promise<void>,
    killAPIServer: (...params) => call("killAPIServer", params) as Promise<void>,
    startAPIServer: (...params) => call("startAPIServer", params) as Promise<void>,
    logs: (...params) => call("logs", params) as Promise<string>,
  };
}

function createChannel(child: ChildProcess): Channel {
  return {
    send: (message) => void child.send(message),
    onMessage: (listener) =>
      void child.on("message", (message: SandboxMessage) => {
        if (message.kind === "result" || message.kind === "error") listener(message);
      }),
    onClose: (listener) => void child.once("exit", listener),
  };
}

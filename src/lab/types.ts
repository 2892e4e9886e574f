// SPDX-License-Identifier: Apache-2.0
import type { RunResult } from "./run.ts";

/** What a pod of the laboratory shall be. */
export interface PodRequest {
  readonly name: string;
  readonly node: string;
  /** TCP. */
  readonly hostPort?: { readonly hostPort: number; readonly containerPort: number };
  /** Both directions. Units: bits a second, and bits. */
  readonly bandwidth?: { readonly rateBits: number; readonly burstBits: number };
  readonly annotations?: Readonly<Record<string, string>>;
  /** Name of the StatefulSet that is its controller; nobody needs to have one. */
  readonly statefulSet?: string;
}

/** A pod that has its network. */
export interface LabPod {
  readonly name: string;
  readonly node: string;
  readonly containerID: string;
  /** Path on the node. */
  readonly netns: string;
  readonly ips: readonly string[];
}

export interface ExecOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
}

/** Everything that one can do with a running laboratory, from the inside or, by messages, from a test on the host. */
export interface LabControl {
  /** Runs a program on a node, in a pod, or on the segment (`lab`); its exit status is part of the result. */
  exec(target: string, argv: readonly string[], options?: ExecOptions): Promise<RunResult>;
  /** Debian's kubectl with the administrator's credentials. */
  kubectl(args: readonly string[], input?: string): Promise<RunResult>;
  /** @throws PluginError when the chain failed; then DEL has run, too, and the Pod object is gone */
  addPod(request: PodRequest): Promise<LabPod>;
  /** Sends DEL twice, as containerd does, then takes namespace and Pod object away. */
  delPod(name: string): Promise<void>;
  killAgent(node: string, signal: "SIGTERM" | "SIGKILL"): Promise<void>;
  /** Resolves when the agent says that it is ready. */
  startAgent(node: string): Promise<void>;
  killAPIServer(signal: "SIGTERM" | "SIGKILL"): Promise<void>;
  startAPIServer(): Promise<void>;
  listPods(): Promise<readonly LabPod[]>;
  /** What the agent of a node, or `apiserver`, has logged so far. */
  logs(name: string): Promise<string>;
}

// SPDX-License-Identifier: Apache-2.0
import type { AgentConfig } from "../../felix/config.ts";
import type { AgentMetrics } from "../../felix/metrics.ts";
import type { Kernel } from "../../netlink/kernel.ts";
import type { Cluster } from "./cluster.ts";
import type { Logs } from "./logs.ts";

/** What every part of the agent is made with. */
export interface Base {
  readonly nodeName: string;
  /** As at the start. */
  readonly config: AgentConfig;
  readonly logs: Logs;
  readonly metrics: AgentMetrics;
  readonly cluster: Cluster;
  readonly kernel: Kernel;
}

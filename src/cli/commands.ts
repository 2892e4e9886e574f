// SPDX-License-Identifier: Apache-2.0
import type { CommandEntry } from "./command.ts";

/** Every command, in the order of --help. Each is imported when it is called, so that none slows down the others. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "ipam show",
    summary: "pools and what is left of them; blocks, borrowed addresses, the story of one address",
    load: async () => (await import("./ipam/show.ts")).command,
  },
  {
    name: "ipam check",
    summary: "what is wrong with addresses, and --fix",
    load: async () => (await import("./ipam/check.ts")).command,
  },
  {
    name: "ipam release",
    summary: "give addresses back",
    load: async () => (await import("./ipam/release.ts")).command,
  },
  {
    name: "ipam reserve",
    summary: "keep addresses from automatic assignment, or for one pod",
    load: async () => (await import("./ipam/reserve.ts")).command,
  },
  {
    name: "ipam history",
    summary: "who had an address, from when to when",
    load: async () => (await import("./ipam/history.ts")).command,
  },
  {
    name: "ipam plan",
    summary: "how many more pods fit on which nodes; what a pool of some size gives",
    load: async () => (await import("./ipam/plan.ts")).command,
  },
  {
    name: "node status",
    summary: "what this node's agent has made, and what is wrong",
    load: async () => (await import("./node/status.ts")).command,
  },
  {
    name: "node clean",
    summary: "remove what Gingham made on this node, and only that",
    load: async () => (await import("./node/clean.ts")).command,
  },
  {
    name: "node import",
    summary: "claim the addresses of running containers that host-local gave",
    load: async () => (await import("./node/import/import.ts")).command,
  },
  {
    name: "operator plan",
    summary: "what an Installation would change in the cluster",
    load: async () => (await import("./operator/plan.ts")).command,
  },
  {
    name: "cni log",
    summary: "the last CNI calls of this node, with timings",
    load: async () => (await import("./cni/log.ts")).command,
  },
];

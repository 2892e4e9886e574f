// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from "node:util";
import type { EncapMode } from "../crds/ip-pool.ts";
import type { Family } from "../net/ip.ts";
import { UsageError } from "./errors.ts";
import { FAMILIES } from "./families.ts";

export interface LabOptions {
  readonly nodes: number;
  /** In all, dealt out to the nodes in turn. */
  readonly pods: number;
  /** Prefix length of a block. */
  readonly blockSize: number;
  /** Of nodes, pools and pods. */
  readonly families: readonly Family[];
  /** When packets between nodes travel in VXLAN. */
  readonly vxlan: EncapMode;
  /** Run the tour, tear down, and answer with the exit status. */
  readonly once: boolean;
  /** With `once`: stay when a probe failed, so that somebody can look. */
  readonly keepOnFailure: boolean;
}

export type LabCommand =
  | { readonly kind: "run"; readonly options: LabOptions }
  | { readonly kind: "shell"; readonly lab?: string; readonly target: string; readonly command: readonly string[] }
  | { readonly kind: "kubectl"; readonly lab?: string; readonly args: readonly string[] }
  | { readonly kind: "help" };

export const DEFAULT_OPTIONS: LabOptions = {
  nodes: 3,
  pods: 12,
  blockSize: 26,
  families: FAMILIES.dual,
  vxlan: "Never",
  once: false,
  keepOnFailure: false,
};

export const USAGE: string = `Gingham's laboratory: nodes as network namespaces on this machine, with real agents, plugins and API server.

  npm run lab                                build it, show it, stay until Ctrl-C
  npm run lab -- --once                      build it, show it, tear it down; exit 0 only if every probe passed
  npm run lab -- --nodes 5 --pods 20 --block-size 28
  npm run lab -- --families ipv6             a cluster that has no IPv4
  npm run lab -- --vxlan Always              packets between nodes in VXLAN
  npm run lab -- shell node-1 [COMMAND…]     from another terminal: a shell on a node, or inside a pod (shell pod-3)
  npm run lab -- kubectl get ipamblocks      from another terminal: kubectl against the laboratory
  npm run lab -- shell --lab ID node-1       of several laboratories, that one; kubectl --lab ID in the same way

  --nodes N        nodes, 1 to 32 (default ${DEFAULT_OPTIONS.nodes})
  --pods N         pods in all, 2 to 1000 (default ${DEFAULT_OPTIONS.pods})
  --block-size N   prefix length of an IPAMBlock, 20 to 32 (default ${DEFAULT_OPTIONS.blockSize}); IPv6 blocks are as large
  --families F     ipv4, ipv6 or dual: of nodes, pools and pods (default dual)
  --vxlan MODE     Never, Always or CrossSubnet: of the pools (default Never)
  --once           run the tour and leave
  --keep-on-failure  with --once: stay when a probe failed
`;

/** @throws UsageError which says what is wrong and what would be right */
export function parseLabArgs(argv: readonly string[]): LabCommand {
  const [first] = argv;
  const { lab, rest } = takeLab(argv.slice(1));
  const which = lab === undefined ? {} : { lab };
  if (first === "shell") {
    const [target, ...command] = rest;
    if (target === undefined) throw new UsageError("shell needs a node or a pod: npm run lab -- shell node-1");
    return { kind: "shell", ...which, target, command };
  }
  if (first === "kubectl") return { kind: "kubectl", ...which, args: rest };
  const { values } = parseRunArgs(argv);
  if (values.help === true) return { kind: "help" };
  return {
    kind: "run",
    options: {
      nodes: parseCount("--nodes", values.nodes, DEFAULT_OPTIONS.nodes, [1, 32]),
      pods: parseCount("--pods", values.pods, DEFAULT_OPTIONS.pods, [2, 1000]),
      blockSize: parseCount("--block-size", values["block-size"], DEFAULT_OPTIONS.blockSize, [20, 32]),
      families: parseFamilies(values.families),
      vxlan: parseMode(values.vxlan),
      once: values.once ?? false,
      keepOnFailure: values["keep-on-failure"] ?? false,
    },
  };
}

/** Takes `--lab ID` off the front; what comes later is another program's. */
function takeLab(words: readonly string[]): { readonly lab?: string; readonly rest: readonly string[] } {
  const [first = "", second] = words;
  if (!/^--lab(=|$)/.test(first)) return { rest: words };
  const lab = first === "--lab" ? second : first.slice("--lab=".length);
  if (!lab) throw new UsageError("--lab needs the ID of a laboratory: npm run lab -- shell --lab 4711 node-1");
  return { lab, rest: words.slice(first === "--lab" ? 2 : 1) };
}

const RUN_OPTIONS = {
  nodes: { type: "string" },
  pods: { type: "string" },
  "block-size": { type: "string" },
  families: { type: "string" },
  vxlan: { type: "string" },
  once: { type: "boolean" },
  "keep-on-failure": { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

function parseRunArgs(argv: readonly string[]): ReturnType<typeof parseArgs<{ options: typeof RUN_OPTIONS }>> {
  try {
    return parseArgs({ args: [...argv], options: RUN_OPTIONS });
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : String(error)}. Try: npm run lab -- --help`);
  }
}

function parseFamilies(text: string | undefined): readonly Family[] {
  if (text === undefined) return DEFAULT_OPTIONS.families;
  const found = Object.entries(FAMILIES).find(([name]) => name === text);
  if (found !== undefined) return found[1];
  throw new UsageError(`--families must be one of ${Object.keys(FAMILIES).join(", ")}, got ${JSON.stringify(text)}`);
}

function parseMode(text: string | undefined): EncapMode {
  const modes: readonly EncapMode[] = ["Never", "Always", "CrossSubnet"];
  const found = text === undefined ? DEFAULT_OPTIONS.vxlan : modes.find((mode) => mode === text);
  if (found !== undefined) return found;
  throw new UsageError(`--vxlan must be one of ${modes.join(", ")}, got ${JSON.stringify(text)}`);
}

function parseCount(
  name: string,
  text: string | undefined,
  fallback: number,
  [min, max]: readonly [number, number],
): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max)
    throw new UsageError(`${name} must be a whole number from ${min} to ${max}, got ${JSON.stringify(text)}`);
  return value;
}

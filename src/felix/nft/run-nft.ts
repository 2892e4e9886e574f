// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { NftError } from "./errors.ts";
import type { PacketFilterPort, TableChanges } from "./ports.ts";
import { TABLE_NAME } from "./table.ts";

/** Longer than any honest run: 5,000 elements take 0.1 s. Units: milliseconds. */
const TIMEOUT_MS = 20_000;
/** Of nft's complaint: each line of a script that is refused has one of its own. */
const COMPLAINT_LINES = 3;

interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Own runs whose notifications may still be on their way. */
const OWN_RUNS = 16;

export interface NftOptions {
  /** What is executed, before nft's own arguments: a test puts `ip netns exec NAME` before it. @default ["nft"] */
  readonly command?: readonly string[];
  /** Absent: nobody tells of others' changes. */
  readonly changes?: TableChanges;
}

/** Reads and changes the table `inet gingham` of this process's network namespace by the program `nft`. */
export function nftPacketFilter({ command = ["nft"], changes }: NftOptions = {}): PacketFilterPort {
  let own: readonly number[] = [];
  return {
    apply: async (script) => {
      const remember = (pid: number): void => {
        own = [...own, pid].slice(-OWN_RUNS);
      };
      await succeed(command, ["-f", "-"], script, remember);
    },
    check: async (script) => void (await succeed(command, ["-c", "-f", "-"], script)),
    list: async () => {
      const { exitCode, stdout, stderr } = await run(command, ["-j", "list", "table", "inet", TABLE_NAME]);
      if (exitCode === 0) return stdout;
      // It may be that there is none, for which nft has no exit code of its own.
      const tables = await succeed(command, ["-j", "list", "tables"]);
      if (!hasTable(tables)) return undefined;
      throw refused(exitCode, stderr);
    },
    watch: (onChange) =>
      changes?.watch(({ damage, isLost }) => {
        const others = [...damage].filter(([portID]) => !own.includes(portID));
        if (isLost || others.length > 0) onChange(others.flatMap(([, what]) => what));
      }) ?? (() => {}),
  };
}

function hasTable(json: string): boolean {
  const { nftables } = JSON.parse(json) as {
    readonly nftables: readonly { readonly table?: { readonly family: string; readonly name: string } }[];
  };
  return nftables.some(({ table }) => table?.family === "inet" && table.name === TABLE_NAME);
}

async function succeed(
  command: readonly string[],
  args: readonly string[],
  script = "",
  onStart: (pid: number) => void = () => {},
): Promise<string> {
  const { exitCode, stdout, stderr } = await run(command, args, script, onStart);
  if (exitCode !== 0) throw refused(exitCode, stderr);
  return stdout;
}

/** @throws NftError when the program cannot be executed */
async function run(
  command: readonly string[],
  args: readonly string[],
  script = "",
  onStart: (pid: number) => void = () => {},
): Promise<Outcome> {
  const [file = "nft", ...before] = command;
  const child = spawn(file, [...before, ...args], { stdio: "pipe", timeout: TIMEOUT_MS, killSignal: "SIGKILL" });
  if (child.pid !== undefined) onStart(child.pid);
  const exit = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  // A program that ends without reading its script says why on stderr.
  child.stdin.on("error", () => {});
  child.stdin.end(script);
  try {
    const [exitCode, stdout, stderr] = await Promise.all([exit, text(child.stdout), text(child.stderr)]);
    return { exitCode, stdout, stderr };
  } catch (cause) {
    throw new NftError(`Cannot run ${file}: install the package nftables, and have it in the agent's PATH`, cause);
  }
}

function refused(exitCode: number | null, stderr: string): NftError {
  const complaint = stderr.trim().split("\n").slice(0, COMPLAINT_LINES).join(" | ");
  const how = exitCode === null ? `did not end within ${TIMEOUT_MS / 1000} s` : `refused (exit code ${exitCode})`;
  return new NftError(
    `nft ${how}: ${complaint || "it says nothing"}; check that the kernel has nf_tables with nat and fib`,
  );
}

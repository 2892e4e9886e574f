// SPDX-License-Identifier: Apache-2.0
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { LabError } from "./errors.ts";

/**
 * What a running laboratory keeps on the host: one directory, with the kubeconfig, the socket behind it, and this
 * state, from which another terminal finds its way in. It goes when the laboratory does; what a killed one left is swept
 * by the next.
 */
export interface LabState {
  /** The process in the host's network that serves kubectl and owns the directory. */
  readonly owner: ProcessIdentity;
  /** Process 1 of the sandbox, as the host counts; absent until it runs. */
  readonly sandboxPid?: number;
  readonly rootless: boolean;
  readonly targets: Readonly<Record<string, ShellTarget>>;
}

/** A process ID together with its start time, since process IDs come back. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat. Units: clock ticks since boot. */
  readonly startTicks: string;
}

/** A node, or a pod when `netns` is there. Process IDs as the laboratory counts. */
export interface ShellTarget {
  readonly holderPid: number;
  readonly netns?: string;
}

const STATE_FILE = "state.json";

/** Source: proc(5), /proc/PID/stat; the command's name may hold blanks and brackets, so count from the last one. */
export function parseStartTicks(stat: string): string {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[19] ?? "";
}

export function identifyProcess(pid: number): ProcessIdentity | undefined {
  try {
    return { pid, startTicks: parseStartTicks(readFileSync(`/proc/${pid}/stat`, "utf8")) };
  } catch {
    return undefined;
  }
}

/** Where laboratories of this user live. @throws LabError when somebody else has put something there */
export function openStateRoot(root: string = defaultStateRoot()): string {
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const { uid, mode } = lstatSync(root);
  if (uid !== process.getuid?.() || (mode & 0o170777) !== 0o040700)
    throw new LabError(
      "StateDir",
      `${root} is not a directory of mode 0700 that belongs to you; remove it and try again`,
    );
  return root;
}

function defaultStateRoot(): string {
  return join(tmpdir(), `gingham-lab-${process.getuid?.() ?? 0}`);
}

/** Makes the directory of a new laboratory, after sweeping those whose owner is gone. */
export function createStateDir(root: string, rootless: boolean): string {
  for (const { dir, state } of listStates(root)) {
    if (!isAlive(state.owner)) rmSync(dir, { recursive: true, force: true });
  }
  const owner = identifyProcess(process.pid);
  if (owner === undefined) throw new LabError("StateDir", "Cannot read /proc/self/stat; mount /proc and try again");
  const dir = mkdtempSync(join(root, `${owner.pid}-`));
  writeState(dir, { owner, rootless, targets: {} });
  return dir;
}

export function writeState(dir: string, state: LabState): void {
  const path = join(dir, STATE_FILE);
  writeFileSync(`${path}.new`, JSON.stringify(state), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

export function removeStateDir(dir: string): void {
  rmSync(dir, { recursive: true, force: true });
}

/** A laboratory that can be entered. */
export interface RunningLab {
  /** Name of its directory; a beginning that no other one has is enough to type. */
  readonly id: string;
  readonly dir: string;
  readonly state: LabState & { readonly sandboxPid: number };
}

/**
 * The laboratory of that ID, or the only one that runs: which of several is meant, nobody guesses.
 *
 * @throws LabError when there is none, or several
 */
export function findRunningLab(root: string, id?: string): RunningLab {
  const running = listStates(root)
    .flatMap(({ dir, state }): RunningLab[] => {
      const { sandboxPid, owner } = state;
      if (!isAlive(owner) || sandboxPid === undefined) return [];
      return [{ id: basename(dir), dir, state: { ...state, sandboxPid } }];
    })
    .sort((a, b) => Number(a.state.owner.startTicks) - Number(b.state.owner.startTicks));
  const wanted = running.filter((lab) => lab.id.startsWith(id ?? ""));
  const [lab, ...more] = wanted;
  if (lab !== undefined && more.length === 0) return lab;
  if (running.length === 0)
    throw new LabError("NoLab", "No laboratory of yours is running; start one in another terminal with: npm run lab");
  const known = running.map(describeLab).join(", ");
  if (lab === undefined) throw new LabError("NoLab", `No laboratory ${id} of yours is running; there are ${known}`);
  throw new LabError("SeveralLabs", `Several laboratories of yours are running: ${known}; say which with --lab ID`);
}

/** As `4711-aB3xYz (nodes: 3, pods: 12)`. */
export function describeLab({ id, state }: RunningLab): string {
  const targets = Object.values(state.targets);
  const pods = targets.filter(({ netns }) => netns !== undefined).length;
  return `${id} (nodes: ${targets.length - pods}, pods: ${pods})`;
}

function listStates(root: string): { readonly dir: string; readonly state: LabState }[] {
  return readdirSync(root).flatMap((name) => {
    const dir = join(root, name);
    try {
      // Written by writeState alone, in a directory that only this user can write.
      return [{ dir, state: JSON.parse(readFileSync(join(dir, STATE_FILE), "utf8")) as LabState }];
    } catch {
      return [];
    }
  });
}

function isAlive(process: ProcessIdentity): boolean {
  return identifyProcess(process.pid)?.startTicks === process.startTicks;
}

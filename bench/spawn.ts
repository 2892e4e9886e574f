// SPDX-License-Identifier: Apache-2.0

import { dlopen, getRawPointer } from "node:ffi";
// Node's own spawn forks: it copies the page tables of this large process, 2 to 3 ms that each call of each contender
// would pay here and that none pays on a node. A container runtime is a Go program, which starts others by CLONE_VFORK;
// so does glibc's posix_spawn. Outside of bench/, `node:ffi` belongs to netlink/libc.ts alone.
import { closeSync, writeSync } from "node:fs";
import { Socket } from "node:net";

const { functions: libc } = dlopen(null, {
  pipe2: { arguments: ["buffer", "i32"], return: "i32" },
  posix_spawn: { arguments: ["buffer", "buffer", "buffer", "u64", "buffer", "buffer"], return: "i32" },
  posix_spawn_file_actions_init: { arguments: ["buffer"], return: "i32" },
  posix_spawn_file_actions_adddup2: { arguments: ["buffer", "i32", "i32"], return: "i32" },
  posix_spawn_file_actions_destroy: { arguments: ["buffer"], return: "i32" },
  waitpid: { arguments: ["i32", "buffer", "i32"], return: "i32" },
});

const O_CLOEXEC = 0o2000000;
/** sizeof(posix_spawn_file_actions_t) is 80. Source: glibc, spawn.h. */
const FILE_ACTIONS_BYTES = 128;

export interface Exit {
  readonly code: number;
  /** stdout and stderr. */
  readonly output: string;
}

/**
 * Runs a program to its end: until its output has ended and it has been waited for.
 *
 * @param stdin less than a pipe takes at once, 64 KiB
 * @throws Error when it cannot be started
 */
export async function execute(path: string, env: Readonly<Record<string, string>>, stdin: string): Promise<Exit> {
  const input = pipe();
  const output = pipe();
  writeSync(input.write, stdin);
  closeSync(input.write);
  const pid = start(path, env, [input.read, output.write, output.write]);
  closeSync(input.read);
  closeSync(output.write);
  const chunks: Buffer[] = [];
  const socket: AsyncIterable<Buffer> = new Socket({ fd: output.read, readable: true, writable: false });
  for await (const chunk of socket) chunks.push(chunk);
  const status = new Int32Array(1);
  libc.waitpid(pid, status, 0);
  const [word = 0] = status;
  // Source: wait(2). A program that a signal ended counts as failed.
  const code = (word & 0x7f) === 0 ? (word >> 8) & 0xff : 128 + (word & 0x7f);
  return { code, output: Buffer.concat(chunks).toString() };
}

function pipe(): { readonly read: number; readonly write: number } {
  const fds = new Int32Array(2);
  if (libc.pipe2(fds, O_CLOEXEC) !== 0) throw new Error("pipe2 failed");
  const [read = -1, write = -1] = fds;
  return { read, write };
}

function start(path: string, env: Readonly<Record<string, string>>, stdio: readonly number[]): number {
  const actions = Buffer.alloc(FILE_ACTIONS_BYTES);
  libc.posix_spawn_file_actions_init(actions);
  for (const [i, fd] of stdio.entries()) libc.posix_spawn_file_actions_adddup2(actions, fd, i);
  const file = Buffer.from(`${path}\0`);
  const argv = stringArray([path]);
  const envp = stringArray(Object.entries(env).map(([name, value]) => `${name}=${value}`));
  const pid = new Int32Array(1);
  const error = libc.posix_spawn(pid, file, actions, 0n, argv.pointers, envp.pointers);
  libc.posix_spawn_file_actions_destroy(actions);
  if (error !== 0) throw new Error(`Cannot execute ${path}: errno ${error}`);
  return pid[0] ?? -1;
}

/** A `char *[]`, and what it points at, which must live as long. */
function stringArray(strings: readonly string[]): { readonly pointers: Buffer; readonly texts: readonly Buffer[] } {
  const texts = strings.map((text) => Buffer.from(`${text}\0`));
  const pointers = Buffer.alloc(8 * (texts.length + 1));
  for (const [i, text] of texts.entries()) pointers.writeBigUInt64LE(getRawPointer(text), 8 * i);
  return { pointers, texts };
}

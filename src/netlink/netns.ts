// SPDX-License-Identifier: Apache-2.0
import { closeSync, constants as fsConstants, fstatSync, openSync, statfsSync, statSync, writeSync } from "node:fs";
import { constants } from "node:os";
import type { NetnsIdentity } from "../cni/ports.ts";
import { InvariantError } from "../lib/errors.ts";
import { Conn } from "./conn.ts";
import { errnoName, errnoOf, NetlinkError, WiringError } from "./errors.ts";
import { CLONE_NEWNET, namespaceType, setns, unshareNetns } from "./libc.ts";
import type { SocketOptions } from "./socket.ts";

/** linux/magic.h. */
const NSFS_MAGIC = 0x6e736673;
/** EX_OSERR: the process (or the worker thread) cannot be trusted with another call. */
const EXIT_LOST_NAMESPACE = 71;
/** Node's constants lack O_CLOEXEC, because libuv always sets it. */
const { O_RDONLY, O_NONBLOCK } = fsConstants;
/** The calling thread's own; /proc/self would be the main thread's. */
const OWN_NETNS = "/proc/thread-self/ns/net";

/** What open(2) says when there is no such file, as against a lack of rights or descriptors. */
const GONE: ReadonlySet<number> = new Set([
  constants.errno.ENOENT,
  constants.errno.ENOTDIR,
  constants.errno.ESRCH,
  constants.errno.ENXIO,
  constants.errno.ELOOP,
  constants.errno.ENAMETOOLONG,
]);

/** An open network namespace: holding the descriptor keeps the namespace alive. */
export interface OpenNetns extends Disposable {
  readonly fd: number;
  readonly identity: NetnsIdentity;
}

/**
 * Opens a namespace file and proves that it is one of a network.
 *
 * @throws WiringError `NetnsGone` when the path is missing or no network namespace; `Kernel` when it cannot be opened
 */
export function openNetns(path: string): OpenNetns {
  let fd: number;
  try {
    // Without it a pipe in the place of the namespace would hold up the thread until somebody writes.
    fd = openSync(path, O_RDONLY | O_NONBLOCK);
  } catch (cause) {
    const errno = errnoOf(cause);
    if (GONE.has(errno)) {
      throw new WiringError("NetnsGone", `Network namespace ${path} does not exist: ${errnoName(errno)}`, { cause });
    }
    throw new WiringError("Kernel", `Cannot open network namespace ${path}: ${errnoName(errno)}`, { cause });
  }
  try {
    // statfs has no form for descriptors in Node, but the link under /proc leads to the very file that is open.
    const isNsfs = statfsSync(`/proc/thread-self/fd/${fd}`).type === NSFS_MAGIC;
    if (!isNsfs || namespaceType(fd) !== CLONE_NEWNET) {
      const what = isNsfs ? "a namespace of another kind" : "an ordinary file";
      throw new WiringError("NetnsGone", `${path} is no network namespace but ${what}; was its bind mount removed?`);
    }
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return { fd, identity: { dev, inode: ino }, [Symbol.dispose]: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Makes a network namespace without a name: it is gone once its descriptor is closed and nothing else uses it. @throws NetlinkError */
export function createNetns(): OpenNetns {
  const home = openSync(OWN_NETNS, O_RDONLY);
  try {
    unshareNetns();
    try {
      return openNetns(OWN_NETNS);
    } finally {
      switchBack(home);
    }
  } finally {
    closeSync(home);
  }
}

/** Device and inode of a network namespace. @throws WiringError as openNetns does */
export function identifyNetns(path: string): NetnsIdentity {
  using netns = openNetns(path);
  return netns.identity;
}

/** The calling thread's own namespace. */
export function ownNetnsIdentity(): NetnsIdentity {
  const { dev, ino } = statSync(OWN_NETNS, { bigint: true });
  return { dev, inode: ino };
}

export function sameNetns(a: NetnsIdentity, b: NetnsIdentity): boolean {
  return a.dev === b.dev && a.inode === b.inode;
}

/**
 * A function whose result is no Promise: an async one would go on after the thread has switched back. (A function that
 * only throws returns never, which would pass for a Promise.)
 */
export type Synchronous<F extends () => unknown> = F &
  ([ReturnType<F>] extends [never] ? unknown : ReturnType<F> extends PromiseLike<unknown> ? never : unknown);

/**
 * Runs a function while the calling thread is inside the namespace, then switches back.
 *
 * Inside, only synchronous calls see the namespace: asynchronous fs runs on pool threads, which stay outside, and a
 * thread or child process started there would be born inside and stay. If switching back fails, every later call of
 * this thread would hit the wrong network, so the thread ends (in a worker: the worker; else the process).
 *
 * @throws NetlinkError when the thread cannot enter; whatever `fn` throws
 */
export function withNetns<F extends () => unknown>(netns: { readonly fd: number }, fn: Synchronous<F>): ReturnType<F> {
  const home = openSync(OWN_NETNS, O_RDONLY);
  try {
    setns(netns.fd);
    try {
      const result = fn();
      if (isThenable(result)) throw new InvariantError("withNetns() got an asynchronous function");
      return result as ReturnType<F>; // TypeScript widens the call through the intersection to unknown.
    } finally {
      switchBack(home);
    }
  } finally {
    closeSync(home);
  }
}

/** A conversation with the namespace's rtnetlink, usable from anywhere afterwards. @throws WiringError, NetlinkError */
export function openConnIn(path: string, options?: SocketOptions): Conn {
  using netns = openNetns(path);
  return withNetns(netns, () => Conn.open(options));
}

function switchBack(home: number): void {
  try {
    setns(home);
  } catch (error) {
    const name = error instanceof NetlinkError ? error.errnoName : String(error);
    writeSync(2, `gingham: cannot switch back to the host's network namespace (${name}); ending this thread\n`);
    process.exit(EXIT_LOST_NAMESPACE);
  }
}

function isThenable(value: unknown): boolean {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

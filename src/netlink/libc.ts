// SPDX-License-Identifier: Apache-2.0
import { dlopen, getInt32 } from "node:ffi";
import { NetlinkError } from "./errors.ts";

/**
 * The system calls that Node lacks, out of the libc that the process runs on. This is the one file that imports
 * `node:ffi`, which is experimental: whatever changes there, changes here. Sending needs nothing of it, since
 * `fs.writeSync` works on any descriptor; so would `fs.readSync`, but it builds an exception when nothing has come.
 *
 * Hazard: errno belongs to the thread and to the last call, so it is read in the very next call and nowhere else.
 */
const { functions: libc } = dlopen(null, {
  __errno_location: { arguments: [], return: "pointer" },
  socket: { arguments: ["i32", "i32", "i32"], return: "i32" },
  bind: { arguments: ["i32", "buffer", "u32"], return: "i32" },
  getsockname: { arguments: ["i32", "buffer", "buffer"], return: "i32" },
  setsockopt: { arguments: ["i32", "i32", "i32", "buffer", "u32"], return: "i32" },
  connect: { arguments: ["i32", "buffer", "u32"], return: "i32" },
  recv: { arguments: ["i32", "buffer", "u64", "i32"], return: "i64" },
  setns: { arguments: ["i32", "i32"], return: "i32" },
  unshare: { arguments: ["i32"], return: "i32" },
  ioctl: { arguments: ["i32", "u64"], return: "i32" },
});

/** bits/socket.h, asm-generic/socket.h, linux/in.h, linux/in6.h, linux/sched.h, linux/nsfs.h. */
export const AF_NETLINK = 16;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SO_RCVBUF = 8;
export const SO_RCVTIMEO = 20;
export const SO_RCVBUFFORCE = 33;
export const SOL_NETLINK = 270;
export const IPPROTO_IP = 0;
export const IPPROTO_ICMP = 1;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_ICMPV6 = 58;
export const IP_MTU_DISCOVER = 10;
export const IPV6_MTU_DISCOVER = 23;
export const IPV6_RECVERR = 25;
/** Of either: not to be fragmented, and not held to what is known of the path. */
export const PMTUDISC_PROBE = 3;
export const CLONE_NEWNET = 0x40000000;
const NS_GET_NSTYPE = 0xb703n;

/** @throws NetlinkError */
export function socket(domain: number, type: number, protocol: number): number {
  const fd = libc.socket(domain, type, protocol);
  return fd < 0 ? fail("socket") : fd;
}

/** @throws NetlinkError */
export function bind(fd: number, address: Uint8Array): void {
  if (libc.bind(fd, address, address.length) < 0) fail("bind");
}

/** @throws NetlinkError */
export function connect(fd: number, address: Uint8Array): void {
  if (libc.connect(fd, address, address.length) < 0) fail("connect");
}

/** Fills `address`. @throws NetlinkError */
export function getsockname(fd: number, address: Uint8Array): void {
  const length = Int32Array.of(address.length);
  if (libc.getsockname(fd, address, length) < 0) fail("getsockname");
}

/** @throws NetlinkError */
export function setsockopt(fd: number, level: number, option: number, value: Uint8Array): void {
  if (libc.setsockopt(fd, level, option, value, value.length) < 0) fail(`setsockopt(${level}, ${option})`);
}

/** Receives one datagram. Returns its length, or the negative errno. */
export function recv(fd: number, buffer: Uint8Array): number {
  const length = libc.recv(fd, buffer, BigInt(buffer.length), 0);
  return length < 0n ? -lastErrno() : Number(length);
}

/** Moves the calling thread, and it alone, into the network namespace behind the descriptor. @throws NetlinkError */
export function setns(fd: number): void {
  if (libc.setns(fd, CLONE_NEWNET) < 0) fail("setns");
}

/** Moves the calling thread, and it alone, into a network namespace that is made for it. @throws NetlinkError */
export function unshareNetns(): void {
  if (libc.unshare(CLONE_NEWNET) < 0) fail("unshare");
}

/** CLONE_NEW* of a namespace file's kind. @throws NetlinkError ENOTTY when the descriptor is no namespace file */
export function namespaceType(fd: number): number {
  const type = libc.ioctl(fd, NS_GET_NSTYPE);
  return type < 0 ? fail("ioctl(NS_GET_NSTYPE)") : type;
}

function fail(op: string): never {
  throw new NetlinkError({ op, errno: lastErrno() });
}

function lastErrno(): number {
  return getInt32(libc.__errno_location());
}

// SPDX-License-Identifier: Apache-2.0
import type { Allocation } from "../ipam/types.ts";
import type { IP } from "../net/ip.ts";

/**
 * Which interface of which container in which network: the identity of an attachment.
 * Source: CNI SPEC 1.1.0, Section 3.
 */
export interface AttachmentID {
  readonly network: string;
  readonly containerID: string;
  readonly ifName: string;
}

/** Identity of a namespace's file or of a directory: device and inode, as `stat` tells. */
export interface FileIdentity {
  readonly dev: bigint;
  readonly inode: bigint;
}

/** A pod, as the runtime names it. */
export interface PodRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
}

/** What an ADD answered, free of any version: kept in the attachment's record and rendered when asked for. */
export interface AddResult {
  readonly host: { readonly name: string; readonly mac: string };
  readonly container: {
    readonly name: string;
    readonly mac: string;
    readonly mtuBytes: number;
    /** CNI_NETNS as it was given. */
    readonly sandbox: string;
  };
  readonly ips: readonly IP[];
  readonly routes: readonly ResultRoute[];
  readonly dns: DNS;
}

export interface ResultRoute {
  /** CIDR text. */
  readonly dst: string;
  readonly gw?: string;
}

export interface DNS {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

/** A process, beyond doubt: pids are used again, the pair of pid and start time is not. */
export interface Executor {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat. Units: clock ticks since boot. */
  readonly startTicks: number;
}

/**
 * Where a process stood when it looked at a namespace's path. A path that is missing proves that the namespace is dead
 * only to somebody who stands where it could be seen, see `canSee` in `attachment.ts`.
 */
export interface Vantage {
  /** Inodes of /proc/self/ns/mnt and /proc/self/ns/pid. */
  readonly mntns: bigint;
  readonly pidns: bigint;
  /** The directory that holds the path; absent when there is none. */
  readonly dir?: FileIdentity;
}

interface RecordBase {
  readonly handleID: string;
  readonly pod?: PodRef;
  /** Unix time of this line. Units: milliseconds. */
  readonly atMs: number;
}

interface KernelPart {
  /** The boot in which link and namespace exist. */
  readonly bootID: string;
  readonly netns: { readonly path: string; readonly identity: FileIdentity; readonly vantage: Vantage };
  readonly hostIface: string;
}

/** Written before the first outside effect: addresses may be taken and links made, or not. */
export interface IntentRecord extends RecordBase, KernelPart {
  readonly state: "intent";
  /** While this process lives, its ADD is under way. */
  readonly executor: Executor;
}

/** Written before the answer: everything is made. */
export interface WholeRecord extends RecordBase, KernelPart {
  readonly state: "whole";
  readonly hostIfIndex: number;
  readonly allocations: readonly Allocation[];
  readonly result: AddResult;
  /** Texts of networks from which the pod may send besides its own addresses. */
  readonly allowedSourcePrefixes?: readonly string[];
}

/**
 * A DEL is under way, or the datastore was away when it ran. Written before the link goes, so that a DEL that a crash
 * cuts short is never mistaken for an attachment that is whole.
 */
export interface ReleasingRecord extends RecordBase {
  readonly state: "releasing";
  /** Absent: there is no link any more. */
  readonly link?: { readonly bootID: string; readonly hostIface: string; readonly hostIfIndex: number };
  /** Absent: whatever this node holds under the handle. */
  readonly allocations?: readonly Allocation[];
}

/** State of an attachment, as its record's last complete line tells. */
export type AttachmentRecord = IntentRecord | WholeRecord | ReleasingRecord;

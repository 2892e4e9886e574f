// SPDX-License-Identifier: Apache-2.0
import type { Allocation } from "../ipam/types.ts";
import type { IP } from "../net/ip.ts";
import type { Delegation } from "./delegation/types.ts";

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
  /** Who gives the addresses in our stead, and takes them back; then there are no allocations. */
  readonly delegation?: Delegation;
  /** Unix time of this line. Units: milliseconds. */
  readonly atMs: number;
}

interface NetnsPart {
  /** The boot in which link and namespace exist. */
  readonly bootID: string;
  readonly netns: { readonly path: string; readonly identity: FileIdentity; readonly vantage: Vantage };
}

/** Written before the first outside effect: addresses may be taken and links made, or not. */
export interface IntentRecord extends RecordBase, NetnsPart {
  readonly state: "intent";
  /** Absent: another plugin makes the link. */
  readonly hostIface?: string;
  /** While this process lives, its ADD is under way. */
  readonly executor: Executor;
}

/** Written before the answer: everything is made. */
export interface WholeRecord extends RecordBase, NetnsPart {
  readonly state: "whole";
  readonly hostIface: string;
  readonly hostIfIndex: number;
  readonly allocations: readonly Allocation[];
  readonly result: AddResult;
  /** Texts of networks from which the pod may send besides its own addresses. */
  readonly allowedSourcePrefixes?: readonly string[];
}

/** Written before the answer of a call as IPAM alone: the addresses are taken, and the plugin that called does the rest. */
export interface AssignedRecord extends RecordBase, NetnsPart {
  readonly state: "assigned";
  readonly allocations: readonly Allocation[];
  readonly result: IPAMResult;
}

/** What a call as IPAM alone answered, free of any version. */
export interface IPAMResult {
  readonly ips: readonly {
    /** With the prefix length of its segment, as `10.0.0.2/26`. */
    readonly address: string;
    readonly gateway?: string;
  }[];
  readonly routes: readonly ResultRoute[];
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
export type AttachmentRecord = IntentRecord | WholeRecord | AssignedRecord | ReleasingRecord;

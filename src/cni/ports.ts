// SPDX-License-Identifier: Apache-2.0
import type { Allocation, AssignRequest } from "../ipam/types.ts";
import type { CIDR } from "../net/cidr.ts";
import type { IP } from "../net/ip.ts";
import type { MAC } from "../net/mac.ts";
import type { AttachmentID, AttachmentRecord, Executor, PodRef, Vantage } from "./types.ts";

/** Addresses, as the commands need them. Implemented by `ipam/allocator` (behind group commit in the agent). */
export interface AddressManager {
  /**
   * Takes one address of each family. When the signal aborts, whatever was taken is given back before it rejects.
   *
   * @throws IPAMError (code `NoAddress`, `PoolNotFound`, `NotReady`, `Datastore`) which names the object and the next step
   */
  assign(request: AssignRequest, signal?: AbortSignal): Promise<readonly Allocation[]>;
  /** Gives back just these. An address that is free already, or is another's by now, is left alone and no error. */
  release(allocations: readonly Allocation[], signal?: AbortSignal): Promise<void>;
  /** Gives back all that this node holds under the handle. An unknown handle is no error. */
  releaseByHandle(handleID: string, signal?: AbortSignal): Promise<void>;
  /**
   * Reads what the datastore has in place of an allocation, in words; undefined while the allocation holds: its block
   * has the address under this handle and sequence number.
   *
   * @throws IPAMError `Datastore`, `BrokenObject`
   */
  contradiction(allocation: Allocation): Promise<string | undefined>;
  /**
   * Rejects with what `assign` would reject with now for some pod, as far as is known, and takes nothing. While the API
   * server does not answer, what was known before counts.
   *
   * @throws IPAMError as `assign`
   */
  rehearse(request: Pick<AssignRequest, "families" | "pools">): Promise<void>;
}

/** The two ends of one pod interface, to be made. */
export interface WiringPlan {
  /** Path of the pod's network namespace (CNI_NETNS). */
  readonly netns: string;
  /** Name inside the pod (CNI_IFNAME). */
  readonly contIface: string;
  /** Name on the host: `cali` and 11 hex digits. */
  readonly hostIface: string;
  readonly ips: readonly IP[];
  /** Units: bytes. 0 leaves the kernel's default. */
  readonly mtuBytes: number;
  /** MAC of the pod's end; absent: the kernel chooses. */
  readonly contMAC?: MAC;
  /** Queues of each end, to send and to receive; absent: the kernel's default, which is one. */
  readonly queues?: number;
  /** Destinations routed through the gateway; a /0 of each family by default. */
  readonly routes: readonly CIDR[];
  /** Written to ip_forward inside the pod, as 1 or 0. */
  readonly allowIPForwarding: boolean;
}

/** What was made, enough to find it again and to touch nothing else. */
export interface WiredPod {
  readonly hostIfIndex: number;
  readonly contMAC: MAC;
  readonly mtuBytes: number;
}

/** Identity of a network namespace: the device and inode of its nsfs file, as `stat` tells. */
export interface NetnsIdentity {
  readonly dev: bigint;
  readonly inode: bigint;
}

/** Which attachment to look at. */
export interface WiringQuery {
  /** Path of the pod's network namespace. */
  readonly netns: string;
  readonly contIface: string;
  readonly hostIface: string;
  /** Addresses that the pod should have: the host's routes to these are looked up, and their families' sysctls read. */
  readonly ips: readonly IP[];
}

/** What the kernel has of a link. */
export interface LinkFacts {
  readonly ifIndex: number;
  /** Absent on a link that is no Ethernet. */
  readonly mac?: MAC;
  /** Units: bytes. */
  readonly mtuBytes: number;
  /** IFF_UP, as it was set; the carrier is another matter. */
  readonly isUp: boolean;
  /** Index of a veth's other end, in the namespace where that one is. */
  readonly peerIfIndex?: number;
}

/** An address that a link has. */
export interface AddrFacts {
  readonly ip: IP;
  readonly prefixLength: number;
}

/** A route that the kernel has. */
export interface RouteFacts {
  readonly dst: CIDR;
  /** Name of the device; absent for a route that names none, or several. */
  readonly dev?: string;
  readonly gateway?: IP;
  /** rtm_protocol; ours on the host is 80. */
  readonly protocol: number;
  /** Of IPv6, which keeps no scope, `link` says that there is no gateway. */
  readonly scope: "link" | "universe";
}

/** A kernel setting that the wiring writes. */
export interface SysctlFacts {
  /** File under /proc/sys, as `net/ipv4/conf/cali12345678901/proxy_arp`. */
  readonly path: string;
  /** What the wiring writes. */
  readonly expected: string;
  /** Absent when there is no such file. */
  readonly actual?: string;
}

/** What the kernel has of an attachment, read and not judged. */
export interface WiringFacts {
  /** Absent when there is no link of that name. */
  readonly hostLink?: LinkFacts;
  readonly contLink?: LinkFacts;
  /** Addresses of the host's end; an IPv6 pod needs fe80::ecee:eeff:feee:eeee there. */
  readonly hostAddrs: readonly AddrFacts[];
  /** Addresses of the pod's end, its own link-local one among them. */
  readonly contAddrs: readonly AddrFacts[];
  /** Unicast routes of the pod's main table, of all its devices and both families. */
  readonly contRoutes: readonly RouteFacts[];
  /** For each address asked for, in that order, the route that the host takes to it; none when it can take none. */
  readonly hostRoutes: readonly { readonly ip: IP; readonly route?: RouteFacts }[];
  /** Settings of the host's end. The pod's are its own, and chained plugins change them. */
  readonly hostSysctls: readonly SysctlFacts[];
}

/**
 * The kernel's side of an attachment. Implemented by `netlink/ops/pod-wiring`; in the agent it runs in worker threads.
 */
export interface PodWiring {
  /** @throws WiringError with code `NetnsGone` when the path is no network namespace. */
  identifyNetns(path: string): Promise<NetnsIdentity>;
  /**
   * Makes the veth pair, the pod's addresses, routes and sysctls, the host's sysctls and the host routes (protocol 80,
   * scope link, no metric). A stale host link of the same name is deleted first. On failure nothing stays behind.
   *
   * @throws WiringError
   */
  wire(plan: WiringPlan): Promise<WiredPod>;
  /**
   * Deletes the host link, and with it the pair and its routes, but only while name and ifindex both match.
   * Resolves to whether a link was deleted; a missing one is no error.
   */
  unwire(link: { readonly hostIface: string; readonly hostIfIndex: number }): Promise<boolean>;
  /**
   * Deletes the pair whose pod end is `contIface` in exactly this namespace: for an attachment that stopped between
   * its intent and its result, when no ifindex is known yet.
   */
  unwireFromNetns(pod: {
    readonly netns: string;
    readonly identity: NetnsIdentity;
    readonly contIface: string;
    readonly hostIface: string;
  }): Promise<boolean>;
  /**
   * Reads what the kernel has of an attachment, and writes nothing. What is missing is a fact and no error.
   *
   * @throws WiringError `NetnsGone` when the path is no network namespace
   */
  inspect(query: WiringQuery): Promise<WiringFacts>;
}

/** A record that was made, and outlives this process. */
export interface CreatedRecord {
  /**
   * Settles once it outlives a power cut, too. Nobody has to wait for it.
   *
   * @throws CNIError `IOFailure`
   */
  readonly durable: Promise<void>;
}

/**
 * What the records of attachments need from storage. What a method has written outlives this process.
 *
 * A power cut may take every line but the first. That loses nothing: kernel and namespaces are gone, and any line has the
 * handle under which the addresses are found.
 */
export interface AttachmentStore {
  /** The state that the last complete line tells; `broken` when there are bytes that no state can be read from. */
  read(id: AttachmentID): Promise<StoredRecord>;
  /** Writes the first line of a new record, over whatever was there. Atomic: after a crash the line is whole or absent. */
  create(id: AttachmentID, record: AttachmentRecord): Promise<CreatedRecord>;
  /** Adds a line: the record's new state. */
  append(id: AttachmentID, record: AttachmentRecord): Promise<void>;
  /**
   * Idempotent: a missing record is no error. From then on `read` says that it is absent, also when this fails; `list` names
   * it until it is gone.
   */
  remove(id: AttachmentID): Promise<void>;
  /** Every attachment that has a record, in no order. */
  list(): Promise<readonly AttachmentID[]>;
  /** Whether a record could be written now; leaves nothing. @throws CNIError `IOFailure` */
  rehearse(): Promise<void>;
}

/** What storage holds for an attachment. */
export type StoredRecord =
  | { readonly kind: "absent" }
  | { readonly kind: "record"; readonly record: AttachmentRecord }
  | { readonly kind: "broken"; readonly reason: string };

/** A DEL that was answered and is still to be done: no agent was there, or an ADD of the same attachment did not end. */
export interface PendingRelease {
  /** Name under which `remove` knows it. Names sort by time. */
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: string;
}

/** The pending releases. */
export interface PendingStore {
  /** Oldest first. A file that cannot be read or decoded is set aside and left out. */
  list(): Promise<readonly PendingRelease[]>;
  /** Writes one down as the launcher does; returns once it is durable. @param nowNs Unix time in nanoseconds */
  add(release: Omit<PendingRelease, "name">, nowNs: bigint): Promise<void>;
  /** Whether it is still to be done. */
  has(name: string): Promise<boolean>;
  /** Whether this process removed it, minutes ago at most. */
  wasRemoved(name: string): boolean;
  remove(name: string): Promise<void>;
  /** Takes a release that can never succeed out of the list, but keeps it for people to look at. */
  setAside(name: string, reason: string): Promise<void>;
}

/** What the commands must know of the machine they run on. */
export interface Host {
  readonly nodeName: string;
  /** /proc/sys/kernel/random/boot_id: another value means that every namespace and link of before is gone. */
  readonly bootID: string;
  /** This process. */
  readonly executor: Executor;
  /** MTU of pods when the network configuration names none. Units: bytes; 0 leaves the kernel's default. */
  readonly podMTUBytes: number;
  /** Of the node itself and of its ends of tunnels: none is a pod's. Shape: in a call's time they may change; [] where nobody knows. */
  readonly ownAddresses: readonly IP[];
  /** The node's name in a file that a network configuration names; undefined when there is no such file. */
  nodeNameIn(path: string): string | undefined;
  /** Whether the process that an intent names is still running: its ADD is then under way, not left by a crash. */
  isAlive(executor: Executor): boolean;
  /** From where this process sees the given path now. */
  vantageOf(netnsPath: string): Promise<Vantage>;
}

/** What of a pod matters to its network. */
export interface PodInfo {
  /** By which the runtime knows it. */
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Absent until it is scheduled. */
  readonly nodeName?: string;
  /** The object that made it and makes it again, such as a StatefulSet. */
  readonly controller?: { readonly kind: string; readonly name: string };
}

/** Asks a URL of `readiness_gates` once. Resolves to why it is not ready; undefined: it is. */
export type GateProbe = (url: string, signal: AbortSignal) => Promise<string | undefined>;

/** What the API server knows of a pod. Implemented over the agent's pod informer. */
export interface PodSource {
  /** Undefined when the pod, or a pod of that UID, is not known. */
  get(pod: PodRef, signal?: AbortSignal): Promise<PodInfo | undefined>;
}

/** What of a namespace matters to the network of its pods. */
export interface NamespaceInfo {
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** What the API server knows of a namespace. Implemented over the agent's namespace informer. */
export interface NamespaceSource {
  /** Undefined when there is no such namespace. */
  get(name: string, signal?: AbortSignal): Promise<NamespaceInfo | undefined>;
}

/** A pod interface that is wanted in the kernel. Shape: a `WorkloadEndpoint` of felix/ports with its attachment's key. */
export interface Endpoint {
  readonly key: string;
  readonly hostIface: string;
  /** 0 until the kernel has made the link. */
  readonly hostIfIndex: number;
  readonly ips: readonly IP[];
  /** Link and routes have just been made, and need no look. */
  readonly isWired?: boolean;
  /** CIDRs that the pod may send from beside its own addresses. */
  readonly allowedSourcePrefixes?: readonly string[];
}

/**
 * Learns what should be in the kernel before it is there, and what should not before it goes, so that nobody takes a
 * new pod's route for a stranger's. At most one endpoint is up for each host interface and for each key.
 */
export interface EndpointListener {
  /** Called before the wiring (ifindex 0) and again after it. ADD waits for the promise. */
  endpointUp(endpoint: Endpoint): Promise<void> | void;
  endpointDown(endpoint: Endpoint): Promise<void> | void;
}

/** The methods of a pino logger that are used here. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

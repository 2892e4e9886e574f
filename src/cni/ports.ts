// SPDX-License-Identifier: Apache-2.0
import type { Allocation, AssignRequest } from "../ipam/types.ts";
import type { CIDR } from "../net/cidr.ts";
import type { IP } from "../net/ip.ts";
import type { MAC } from "../net/mac.ts";

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
}

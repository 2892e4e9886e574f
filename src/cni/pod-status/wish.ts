// SPDX-License-Identifier: Apache-2.0
import { runtimeUID } from "../../crds/core.ts";
import { formatCIDR, hostCIDR } from "../../net/cidr.ts";
import type { IP } from "../../net/ip.ts";
import type { AttachmentID, PodRef } from "../types.ts";
import type { PodState, PodStatusPatch } from "./ports.ts";

/** Annotations that Calico's agents and collectors read. Source: calico-interop 3.7. */
export const POD_IP = "cni.projectcalico.org/podIP";
export const POD_IPS = "cni.projectcalico.org/podIPs";
export const CONTAINER_ID = "cni.projectcalico.org/containerID";

/** A container with its addresses, or with none: it came, and is gone again. */
export interface Sandbox {
  readonly containerID: string;
  readonly ips: readonly IP[];
}

/**
 * What a pod's annotations should become: those of its newest sandbox; or, where that was written before, empty if they
 * are of a sandbox that is gone.
 */
export type Wish = {
  /** With the UID as far as anybody knows it. */
  readonly pod: PodRef;
} & (
  | { readonly sandbox: Sandbox; readonly gone?: never }
  | { readonly gone: readonly string[]; readonly sandbox?: never }
);

/** The interface whose address is the pod's; others are those of second networks. Source: calico-interop 3.4. */
export function isOfPod({ ifName }: AttachmentID): boolean {
  return ifName === "eth0";
}

/** Pods of one name and different UIDs are different objects, whose events must not be mixed up. */
export function wishKey({ pod }: Wish): string {
  return `${pod.namespace}/${pod.name}/${pod.uid ?? ""}`;
}

/**
 * Both wishes in one, which has the effect of the one after the other. What came is newer than whatever went before; a
 * DEL that is late, of an older sandbox, changes nothing.
 */
export function combine(older: Wish, newer: Wish): Wish {
  if (newer.sandbox !== undefined) return newer;
  if (older.sandbox === undefined) return { ...newer, gone: [...new Set([...older.gone, ...newer.gone])] };
  const { containerID } = older.sandbox;
  return newer.gone.includes(containerID) ? { ...older, sandbox: { containerID, ips: [] } } : older;
}

/** What a pod with this sandbox has. The first address is the pod's own; all carry their mask. */
export function annotationsOf({ containerID, ips }: Sandbox): Readonly<Record<string, string>> {
  const texts = ips.map((ip) => formatCIDR(hostCIDR(ip)));
  return { [POD_IP]: texts[0] ?? "", [POD_IPS]: texts.join(), [CONTAINER_ID]: containerID };
}

/**
 * The patch that fulfils a wish; undefined when there is nothing to write. Addresses are made empty and not removed: a
 * pod that is being deleted counts as finished by the empty text.
 *
 * @param state the pod as it was read; not needed for a new sandbox, whose only precondition is the UID
 */
export function patchFor({ pod, sandbox, gone }: Wish, state: PodState | undefined): PodStatusPatch | undefined {
  if (pod.uid !== undefined && state !== undefined && runtimeUID(state) !== pod.uid) return undefined;
  const objectUID = state?.uid ?? pod.uid;
  if (sandbox !== undefined) return { ...(objectUID && { uid: objectUID }), annotations: annotationsOf(sandbox) };
  if (state === undefined) return undefined;
  const { uid, resourceVersion, annotations } = state;
  const owner = annotations[CONTAINER_ID] ?? "";
  // A newer sandbox has the pod.
  if (owner !== "" && !gone.includes(owner)) return undefined;
  if (annotations[POD_IP] === "" && annotations[POD_IPS] === "") return undefined;
  return { uid, resourceVersion, annotations: { [POD_IP]: "", [POD_IPS]: "" } };
}

// SPDX-License-Identifier: Apache-2.0
import { hash } from "node:crypto";
import type { AttachmentID, PodRef } from "./types.ts";

/** Prefix of every interface that Gingham makes on the host. Felix owns what begins with it. */
export const HOST_IFACE_PREFIX = "cali";
const HEX_DIGITS = 11;

/** Whose interface it is: what names must be derived from, so that a DEL without a record finds the same names. */
export interface Owner extends AttachmentID {
  readonly nodeName: string;
  /** Absent: no Kubernetes is behind the call. */
  readonly pod?: PodRef;
}

/**
 * Name of the host's end. For eth0 of a Kubernetes pod it is Calico's own, from SHA-1 of `<namespace>.<pod>`, so that
 * either agent recognises the other's pods (calico-interop 3.8). Other interfaces of a pod add their name. Without
 * Kubernetes it comes from node and container, since container names repeat across machines.
 */
export function hostIfaceOf(owner: Owner): string {
  return `${HOST_IFACE_PREFIX}${sha1(identityOf(owner)).slice(0, HEX_DIGITS)}`;
}

/**
 * Key of the owner's addresses. For eth0 of a Kubernetes pod `<network>.<containerID>`, on which Calico's collector and
 * calicoctl depend (calico-interop 3.4). Otherwise, and where that could not be an object's name, the second part is a
 * hash: one handle belongs to one attachment of one machine, or releasing one would free the other's address.
 */
export function handleIDOf(owner: Owner): string {
  const { network, containerID, ifName, pod } = owner;
  const plain = `${network}.${containerID}`;
  if (pod !== undefined && ifName === "eth0" && isObjectName(plain.toLowerCase())) return plain;
  const digest = sha1(`${owner.nodeName}/${containerID}/${ifName}`);
  const readable = `${network}.${digest}`;
  return isObjectName(readable.toLowerCase()) ? readable : `gingham.${sha1(`${network}/${digest}`)}`;
}

function identityOf({ pod, ifName, nodeName, containerID }: Owner): string {
  if (pod === undefined) return `${nodeName}/${containerID}/${ifName}`;
  return ifName === "eth0" ? `${pod.namespace}.${pod.name}` : `${pod.namespace}.${pod.name}.${ifName}`;
}

/** DNS-1123 subdomain. Source: Kubernetes, "Object Names and IDs". */
function isObjectName(text: string): boolean {
  return text.length <= 253 && /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/.test(text);
}

function sha1(text: string): string {
  return hash("sha1", text, "hex");
}

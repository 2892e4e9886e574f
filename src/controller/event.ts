// SPDX-License-Identifier: Apache-2.0
import type { Event } from "../crds/core.ts";
import { IPAM_CONFIG_NAME } from "../crds/ipam-config.ts";

/** Events of objects without a namespace live here. Source: Kubernetes, events. */
export const EVENT_NAMESPACE = "default";

/** What events are about when no other object is known. */
export const IPAM_CONFIG_OBJECT: Event["involvedObject"] = {
  apiVersion: "crd.projectcalico.org/v1",
  kind: "IPAMConfig",
  name: IPAM_CONFIG_NAME,
};

/** Longest text that an API server takes. Source: core/v1 Event validation. */
const MAX_MESSAGE = 1024;

/** What one event says. */
export interface EventText {
  /** Of the Event object: another one each time. */
  readonly name: string;
  readonly involvedObject: Event["involvedObject"];
  readonly type: Event["type"];
  readonly reason: string;
  readonly message: string;
  readonly count?: number;
}

/** @param nowMs Unix time in milliseconds @param instance name of this process */
export function newEvent(
  { name, involvedObject, type, reason, message, count = 1 }: EventText,
  { nowMs, instance }: { readonly nowMs: number; readonly instance: string },
): Event {
  const time = new Date(nowMs).toISOString().replace(/\.\d+Z$/, "Z");
  return {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name, namespace: EVENT_NAMESPACE },
    involvedObject,
    type,
    reason,
    message: message.slice(0, MAX_MESSAGE),
    source: { component: "gingham-controller" },
    reportingComponent: "gingham-controller",
    reportingInstance: instance,
    firstTimestamp: time,
    lastTimestamp: time,
    count,
  };
}

// SPDX-License-Identifier: Apache-2.0
import { textOf } from "../json-path.ts";
import type { ApiObject } from "../model.ts";
import type { Column } from "../resource.ts";
import { AGE_COLUMN, NAME_COLUMN } from "../table.ts";
import { at, column, fieldColumn, listAt } from "./cells.ts";

export function podColumns(): readonly Column[] {
  return [
    NAME_COLUMN,
    column("Ready", podReady),
    column("Status", podStatus),
    column("Restarts", (o) => podRestarts(o), 0, "integer"),
    AGE_COLUMN,
    fieldColumn("IP", "status.podIP", "<none>", 1),
    fieldColumn("Node", "spec.nodeName", "<none>", 1),
    fieldColumn("Nominated Node", "status.nominatedNodeName", "<none>", 1),
    column("Readiness Gates", () => "<none>", 1),
  ];
}

function podReady(pod: ApiObject): string {
  const ready = listAt(pod, "status", "containerStatuses").filter((c) => at(c, "ready") === true).length;
  return `${ready}/${listAt(pod, "spec", "containers").length}`;
}

function podStatus(pod: ApiObject): string {
  if (pod.metadata.deletionTimestamp !== undefined) return "Terminating";
  for (const container of listAt(pod, "status", "containerStatuses")) {
    const reason = at(container, "state", "waiting", "reason") ?? at(container, "state", "terminated", "reason");
    if (typeof reason === "string" && reason !== "") return reason;
  }
  return textOf(at(pod, "status", "reason") ?? at(pod, "status", "phase"));
}

function podRestarts(pod: ApiObject): number {
  return listAt(pod, "status", "containerStatuses").reduce<number>((n, c) => n + Number(at(c, "restartCount") ?? 0), 0);
}

export function nodeColumns(): readonly Column[] {
  return [
    NAME_COLUMN,
    column("Status", nodeStatus),
    column("Roles", nodeRoles),
    AGE_COLUMN,
    fieldColumn("Version", "status.nodeInfo.kubeletVersion", ""),
    column("Internal-IP", (o) => nodeAddress(o, "InternalIP"), 1),
    column("External-IP", (o) => nodeAddress(o, "ExternalIP"), 1),
    fieldColumn("OS-Image", "status.nodeInfo.osImage", "<unknown>", 1),
    fieldColumn("Kernel-Version", "status.nodeInfo.kernelVersion", "<unknown>", 1),
    fieldColumn("Container-Runtime", "status.nodeInfo.containerRuntimeVersion", "<unknown>", 1),
  ];
}

function nodeStatus(node: ApiObject): string {
  const ready = listAt(node, "status", "conditions").find((c) => at(c, "type") === "Ready");
  const status = at(ready, "status");
  const text = ready === undefined ? "Unknown" : status === "True" ? "Ready" : "NotReady";
  return at(node, "spec", "unschedulable") === true ? `${text},SchedulingDisabled` : text;
}

const ROLE_LABEL = "node-role.kubernetes.io/";

function nodeRoles(node: ApiObject): string {
  const labels = Object.keys(node.metadata.labels ?? {}).filter((l) => l.startsWith(ROLE_LABEL));
  return labels.length === 0
    ? "<none>"
    : labels
        .map((l) => l.slice(ROLE_LABEL.length))
        .sort()
        .join(",");
}

function nodeAddress(node: ApiObject, type: string): string {
  const address = listAt(node, "status", "addresses").find((a) => at(a, "type") === type);
  return address === undefined ? "<none>" : textOf(at(address, "address"));
}

// SPDX-License-Identifier: Apache-2.0
import { textOf } from "../json-path.ts";
import { type ApiObject, isObject } from "../model.ts";
import type { Column } from "../resource.ts";
import { AGE_COLUMN, NAME_COLUMN } from "../table.ts";
import { at, column, fieldColumn, listAt } from "./cells.ts";
import { nodeColumns, podColumns } from "./workload-columns.ts";

function countColumn(name: string, path: string): Column {
  const fields = path.split(".");
  return column(name, (object) => Number(at(object, ...fields) ?? 0), 0, "integer");
}

const CREATED_AT = column("Created At", (object) => object.metadata.creationTimestamp);

export function selectorText(selector: unknown): string {
  const labels = isObject(selector) && isObject(selector["matchLabels"]) ? selector["matchLabels"] : selector;
  const pairs = isObject(labels) ? Object.entries(labels).filter(([, v]) => typeof v === "string") : [];
  return pairs.length === 0 ? "<none>" : pairs.map(([k, v]) => `${k}=${textOf(v)}`).join(",");
}

function template(field: "name" | "image"): (object: ApiObject) => string {
  return (object) =>
    listAt(object, "spec", "template", "spec", "containers")
      .map((c) => textOf(at(c, field)))
      .join(",");
}

const WIDE_WORKLOAD = [
  column("Containers", template("name"), 1),
  column("Images", template("image"), 1),
  column("Selector", (o) => selectorText(at(o, "spec", "selector")), 1),
];

function sizeOf(value: unknown): number {
  return isObject(value) ? Object.keys(value).length : 0;
}

function readyOf(object: ApiObject): string {
  return `${textOf(at(object, "status", "readyReplicas") ?? 0)}/${textOf(at(object, "spec", "replicas") ?? 1)}`;
}

function portsText(object: ApiObject): string {
  const ports = listAt(object, "spec", "ports").map((p) => {
    const node = at(p, "nodePort");
    return `${textOf(at(p, "port"))}${node === undefined ? "" : `:${textOf(node)}`}/${textOf(at(p, "protocol") ?? "TCP")}`;
  });
  return ports.length === 0 ? "<none>" : ports.join(",");
}

function endpointsText(object: ApiObject): string {
  const all = listAt(object, "subsets").flatMap((s) =>
    listAt(s, "addresses").flatMap((a) => {
      const ports = listAt(s, "ports");
      const ip = textOf(at(a, "ip"));
      return ports.length === 0 ? [ip] : ports.map((p) => `${ip}:${textOf(at(p, "port"))}`);
    }),
  );
  return all.length === 0 ? "<none>" : all.join(",");
}

function roleText(object: ApiObject): string {
  const ref = at(object, "roleRef");
  return `${textOf(at(ref, "kind"))}/${textOf(at(ref, "name"))}`;
}

function eventColumns(): readonly Column[] {
  const lastSeen = (o: ApiObject): unknown =>
    at(o, "series", "lastObservedTime") ?? o["lastTimestamp"] ?? o["eventTime"] ?? o["firstTimestamp"];
  const about = (o: ApiObject): string => {
    const object = at(o, "involvedObject");
    return `${textOf(at(object, "kind")).toLowerCase()}/${textOf(at(object, "name"))}`;
  };
  return [
    column("Last Seen", lastSeen, 0, "date"),
    fieldColumn("Type", "type", ""),
    fieldColumn("Reason", "reason", ""),
    column("Object", about),
    fieldColumn("Subobject", "involvedObject.fieldPath", "", 1),
    column("Source", (o) => textOf(at(o, "source", "component") ?? o["reportingComponent"]), 1),
    fieldColumn("Message", "message", ""),
    column("First Seen", (o) => o["firstTimestamp"] ?? o["eventTime"], 1, "date"),
    fieldColumn("Count", "count", 1, 1),
    { ...NAME_COLUMN, priority: 1 },
  ];
}

const DAEMON_COUNTS: readonly (readonly [string, string])[] = [
  ["Desired", "status.desiredNumberScheduled"],
  ["Current", "status.currentNumberScheduled"],
  ["Ready", "status.numberReady"],
  ["Up-to-date", "status.updatedNumberScheduled"],
  ["Available", "status.numberAvailable"],
];

/** The columns of `kubectl get`, by the plural of the kind; a kind that is not here shows name and age. */
export const BUILTIN_COLUMNS: Readonly<Record<string, readonly Column[]>> = {
  pods: podColumns(),
  nodes: nodeColumns(),
  namespaces: [NAME_COLUMN, fieldColumn("Status", "status.phase", ""), AGE_COLUMN],
  services: [
    NAME_COLUMN,
    fieldColumn("Type", "spec.type"),
    fieldColumn("Cluster-IP", "spec.clusterIP"),
    column("External-IP", (o) => listAt(o, "spec", "externalIPs").map(textOf).join(",") || "<none>"),
    column("Port(s)", portsText),
    AGE_COLUMN,
    column("Selector", (o) => selectorText(at(o, "spec", "selector")), 1),
  ],
  configmaps: [
    NAME_COLUMN,
    column("Data", (o) => sizeOf(o["data"]) + sizeOf(o["binaryData"]), 0, "integer"),
    AGE_COLUMN,
  ],
  secrets: [
    NAME_COLUMN,
    fieldColumn("Type", "type", "Opaque"),
    column("Data", (o) => sizeOf(o["data"]), 0, "integer"),
    AGE_COLUMN,
  ],
  serviceaccounts: [NAME_COLUMN, column("Secrets", (o) => listAt(o, "secrets").length, 0, "integer"), AGE_COLUMN],
  events: eventColumns(),
  endpoints: [NAME_COLUMN, column("Endpoints", endpointsText), AGE_COLUMN],
  deployments: [
    NAME_COLUMN,
    column("Ready", readyOf),
    countColumn("Up-to-date", "status.updatedReplicas"),
    countColumn("Available", "status.availableReplicas"),
    AGE_COLUMN,
    ...WIDE_WORKLOAD,
  ],
  daemonsets: [
    NAME_COLUMN,
    ...DAEMON_COUNTS.map(([name, path]) => countColumn(name, path)),
    column("Node Selector", (o) => selectorText(at(o, "spec", "template", "spec", "nodeSelector"))),
    AGE_COLUMN,
    ...WIDE_WORKLOAD,
  ],
  statefulsets: [NAME_COLUMN, column("Ready", readyOf), AGE_COLUMN, ...WIDE_WORKLOAD.slice(0, 2)],
  replicasets: [
    NAME_COLUMN,
    countColumn("Desired", "spec.replicas"),
    countColumn("Current", "status.replicas"),
    countColumn("Ready", "status.readyReplicas"),
    AGE_COLUMN,
    ...WIDE_WORKLOAD,
  ],
  leases: [NAME_COLUMN, fieldColumn("Holder", "spec.holderIdentity", ""), AGE_COLUMN],
  roles: [NAME_COLUMN, CREATED_AT],
  clusterroles: [NAME_COLUMN, CREATED_AT],
  rolebindings: [NAME_COLUMN, column("Role", roleText), AGE_COLUMN],
  clusterrolebindings: [NAME_COLUMN, column("Role", roleText), AGE_COLUMN],
  networkpolicies: [NAME_COLUMN, column("Pod-Selector", (o) => selectorText(at(o, "spec", "podSelector"))), AGE_COLUMN],
  endpointslices: [
    NAME_COLUMN,
    fieldColumn("AddressType", "addressType", ""),
    column(
      "Ports",
      (o) =>
        listAt(o, "ports")
          .map((p) => textOf(at(p, "port")))
          .join(",") || "<unset>",
    ),
    column(
      "Endpoints",
      (o) =>
        listAt(o, "endpoints")
          .flatMap((e) => listAt(e, "addresses").map(textOf))
          .join(",") || "<unset>",
    ),
    AGE_COLUMN,
  ],
  poddisruptionbudgets: [
    NAME_COLUMN,
    fieldColumn("Min Available", "spec.minAvailable", "N/A"),
    fieldColumn("Max Unavailable", "spec.maxUnavailable", "N/A"),
    countColumn("Allowed Disruptions", "status.disruptionsAllowed"),
    AGE_COLUMN,
  ],
  customresourcedefinitions: [NAME_COLUMN, CREATED_AT],
};

// SPDX-License-Identifier: Apache-2.0
import type { FieldReader } from "../crds/field-reader.ts";
import { ALLOW_ANNOTATION, CNI_OTHERS_ANNOTATION, type Installation } from "../crds/installation.ts";
import { MIN_IPV4_MTU } from "../felix/config-values.ts";
import type { Family } from "../net/ip.ts";
import { autodetectionMethod } from "./autodetection.ts";
import { type PoolWish, readPools } from "./pool-wish.ts";
import { PERMISSIONS, type Permission, type Problem } from "./problem.ts";
import { HEALTH_PORT } from "./render/agent.ts";
import { CONTROLLER_METRICS_PORT, OPERATOR_METRICS_PORT } from "./render/controller.ts";
import { CNI_OTHERS, type CNISettings, DEFAULT_SETTINGS, type InstallSettings, PROVIDERS } from "./render/settings.ts";
import { SpecReader } from "./spec-reader.ts";

/** What an Installation asks for, before anybody has looked at the cluster. */
export interface Wanted {
  /** Families and replicas are those that the cluster then has room for. */
  readonly settings: InstallSettings;
  /** Undefined: the Installation does not say. */
  readonly pools: readonly PoolWish[] | undefined;
  readonly serviceCIDRs: readonly string[];
  /** Agents that are changed at once, of so many nodes. */
  readonly maxUnavailable: (nodes: number) => number;
  readonly permissions: ReadonlySet<Permission>;
  readonly problems: readonly Problem[];
  /** Fields that have no effect, and why where that is not plain. */
  readonly ignored: readonly string[];
}

const LOG_LEVELS = ["Debug", "Info", "Warning", "Error"] as const;

/** Why a field that Tigera's operator heeds has no effect here. */
const REASONS: Readonly<Record<string, string>> = {
  "spec.calicoNetwork.bgp": "Gingham does not speak BGP yet: across subnets pools need an encapsulation",
  "spec.calicoNetwork.clusterRoutingMode": "the agent itself routes",
  "spec.cni.specVersion": "the agent takes the highest that all plugins of its node speak",
};

/** Reads a spec field by field: what cannot be used is a problem, what is not heeded is named, and nothing throws. */
export function readSpec({ metadata, spec = {} }: Installation, image: string): Wanted {
  const root = SpecReader.open(metadata.name, spec);
  const cni = root.section("cni");
  const network = root.section("calicoNetwork");
  refuseOthers(root, cni, network);
  const settings: InstallSettings = {
    image: root.read((fields) => readImage(fields, image), image),
    imagePullSecrets: root.read(readPullSecrets, []),
    provider: root.oneOf("kubernetesProvider", PROVIDERS, ""),
    cni: { ...readCNI(cni, network), others: readOthers(metadata.annotations?.[CNI_OTHERS_ANNOTATION], root) },
    mtuBytes: network.read(readMTU, 0),
    autodetection: readAutodetection(network),
    nodeMetricsPort: root.read(readMetricsPort, DEFAULT_SETTINGS.nodeMetricsPort),
    nodeSelector: root.labels("nodeSelector"),
    controlPlaneNodeSelector: root.labels("controlPlaneNodeSelector"),
    controlPlaneReplicas: root.integer("controlPlaneReplicas", 1, 100, DEFAULT_SETTINGS.controlPlaneReplicas),
    rollout: "Operator",
    logLevel: root.section("logging").section("cni").oneOf("logSeverity", LOG_LEVELS, DEFAULT_SETTINGS.logLevel),
  };
  const wanted = {
    settings,
    pools: network.read((fields) => {
      if (fields.value("ipPools") === undefined) return undefined;
      const { wishes, problems } = readPools(fields);
      network.note(...problems);
      return wishes;
    }, undefined),
    serviceCIDRs: root.texts("serviceCIDRs"),
    maxUnavailable: readMaxUnavailable(root.section("nodeUpdateStrategy")),
    permissions: readPermissions(metadata.annotations?.[ALLOW_ANNOTATION], root),
  };
  const ignored = root.unread().map((path) => (REASONS[path] === undefined ? path : `${path} (${REASONS[path]})`));
  return { ...wanted, problems: root.problems, ignored };
}

/** Values that would have to change something, and cannot. */
function refuseOthers(root: SpecReader, cni: SpecReader, network: SpecReader): void {
  root.refuseBut("variant", ["Calico"], "Gingham installs the variant Calico only: leave the field out");
  root.refuseBut("nonPrivileged", ["Disabled"], "the agent writes routes and sysctls of the host: leave the field out");
  cni.refuseBut("type", ["Calico"], "Gingham is the network plugin: leave the field out, or do not install Gingham");
  const ownConflist = "leave the field out; other IPAM plugins need a conflist of your own (docs/cni-config.md)";
  cni.section("ipam").refuseBut("type", ["Calico"], ownConflist);
  const nftables = "Gingham has nftables only: leave the field out";
  network.refuseBut("linuxDataplane", ["Nftables", "Iptables"], nftables);
  network.refuseBut("linuxPodInterfaceType", ["Veth"], "pods have veth pairs: leave the field out");
}

function readCNI(cni: SpecReader, network: SpecReader): CNISettings {
  const { cni: fallback } = DEFAULT_SETTINGS;
  const folder = (field: "binDir" | "confDir"): string =>
    cni.read((fields) => absolute(fields, field, fallback[field]), fallback[field]);
  return {
    ...fallback,
    binDir: folder("binDir"),
    confDir: folder("confDir"),
    install: cni.oneOf("installMode", ["All", "CalicoOnly"], "All") === "All" ? "All" : "OursOnly",
    hostPorts: network.isEnabled("hostPorts", fallback.hostPorts),
    ipForwarding: network.isEnabled("containerIPForwarding", fallback.ipForwarding),
    sysctls: network.read(readSysctls, {}),
  };
}

function readOthers(text: string | undefined, root: SpecReader): CNISettings["others"] {
  const { others: fallback } = DEFAULT_SETTINGS.cni;
  const others = CNI_OTHERS.find((known) => known === (text ?? fallback));
  if (others !== undefined) return others;
  const message = `${JSON.stringify(text)}, want ${CNI_OTHERS.join(" or ")}`;
  root.note({ reason: "InvalidField", field: `metadata.annotations[${CNI_OTHERS_ANNOTATION}]`, message });
  return fallback;
}

function readAutodetection(network: SpecReader): InstallSettings["autodetection"] {
  const methodOf = (family: Family): string | undefined =>
    network
      .section(`nodeAddressAutodetectionV${family}`)
      .read((fields) => autodetectionMethod(fields, family), undefined);
  const [v4, v6] = [methodOf(4), methodOf(6)];
  return { ...(v4 !== undefined && { v4 }), ...(v6 !== undefined && { v6 }) };
}

function readMTU(network: FieldReader): number {
  const mtuBytes = network.optionalInteger("mtu", 0, 65_535) ?? 0;
  if (mtuBytes > 0 && mtuBytes < MIN_IPV4_MTU)
    throw network.fail("mtu", mtuBytes, `0 or at least ${MIN_IPV4_MTU} bytes`);
  return mtuBytes;
}

/** All of them are the host's. */
function readMetricsPort(root: FieldReader): number {
  const port = root.optionalInteger("nodeMetricsPort", 1, 65_535) ?? DEFAULT_SETTINGS.nodeMetricsPort;
  const taken = [HEALTH_PORT, CONTROLLER_METRICS_PORT, OPERATOR_METRICS_PORT];
  if (taken.includes(port))
    throw root.fail("nodeMetricsPort", port, `another port: this one is taken by Gingham itself`);
  return port;
}

function readMaxUnavailable(strategy: SpecReader): Wanted["maxUnavailable"] {
  strategy.refuseBut("type", ["RollingUpdate"], "the operator changes one node after the other: leave the field out");
  return strategy.section("rollingUpdate").read(
    (fields) => {
      const value = fields.value("maxUnavailable") ?? 1;
      const text = typeof value === "number" ? String(value) : value;
      const [, digits = "", percent] = (typeof text === "string" && /^(\d{1,4})(%?)$/.exec(text)) || [];
      const amount = Number(digits);
      if (amount < 1 || amount > (percent === "%" ? 100 : 1000))
        throw fields.fail("maxUnavailable", value, "1 to 1000, or 1% to 100% of the nodes");
      return (nodes: number) => (percent === "%" ? Math.max(1, Math.ceil((nodes * amount) / 100)) : amount);
    },
    () => 1,
  );
}

function absolute(reader: FieldReader, field: string, fallback: string): string {
  const path = reader.optionalString(field) || fallback;
  if (!path.startsWith("/")) throw reader.fail(field, path, "an absolute path");
  return path;
}

function readSysctls(network: FieldReader): Record<string, string> {
  const entries = network.list("sysctl", (value, element): [string, string] => {
    const reader = network.nested(element, value);
    const key = reader.string("key");
    // All others are the host's, or would let a pod out of its limits.
    if (!/^net\.[\w.*/-]+$/.test(key)) throw reader.fail("key", key, "a key that begins with net.");
    return [key, reader.string("value")];
  });
  return Object.fromEntries(entries);
}

function readPullSecrets(root: FieldReader): string[] {
  return root.list("imagePullSecrets", (value, element) => root.nested(element, value).string("name"));
}

/** What may stand before the name of an image. */
const IMAGE_PART = /^\/*[a-z0-9][\w.-]*(:\d+)?(\/+[a-z0-9][\w.-]*)*\/*$/;

/** Registry, path and prefix replace those parts of the operator's own image. Source: calico-interop 6.1. */
function readImage(root: FieldReader, own: string): string {
  const parts = ["registry", "imagePath", "imagePrefix"].map((field) => {
    const text = root.optionalString(field);
    if (text === undefined || text === "" || text === "UseDefault") return undefined;
    // Else it would be known by the nodes only, once the first agent is gone.
    if (!IMAGE_PART.test(text))
      throw root.fail(
        field,
        text,
        "a registry such as registry.example.org:5000, or a path in one, without scheme and tag",
      );
    return text.replace(/^\/+|\/+$/g, "");
  });
  const [registry, path, prefix = ""] = parts;
  const segments = own.split("/");
  const file = segments.at(-1) ?? "";
  // A registry has a dot, a port, or is localhost; all else is a path.
  const hasRegistry = segments.length > 1 && /[.:]|^localhost$/.test(segments[0] ?? "");
  const ownRegistry = hasRegistry ? (segments[0] ?? "") : "";
  const ownPath = segments.slice(hasRegistry ? 1 : 0, -1).join("/");
  return [registry ?? ownRegistry, path ?? ownPath, prefix + file].filter((part) => part !== "").join("/");
}

function readPermissions(text: string | undefined, root: SpecReader): ReadonlySet<Permission> {
  const permissions = new Set<Permission>();
  for (const name of (text ?? "").split(",").map((word) => word.trim())) {
    if (name === "") continue;
    const permission = PERMISSIONS.find((known) => known === name);
    if (permission !== undefined) permissions.add(permission);
    else {
      const message = `${JSON.stringify(name)} is not known; there are ${PERMISSIONS.join(", ")}`;
      root.note({ reason: "InvalidField", field: `metadata.annotations[${ALLOW_ANNOTATION}]`, message });
    }
  }
  return permissions;
}

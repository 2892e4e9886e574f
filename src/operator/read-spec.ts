// SPDX-License-Identifier: Apache-2.0
import { InvalidObjectError } from "../crds/errors.ts";
import { FieldReader } from "../crds/field-reader.ts";
import { ALLOW_ANNOTATION, type Installation } from "../crds/installation.ts";
import { autodetectionMethod } from "./autodetection.ts";
import { type PoolWish, readPools } from "./pool-wish.ts";
import { PERMISSIONS, type Permission, type Problem } from "./problem.ts";
import { type CNISettings, DEFAULT_SETTINGS, type InstallSettings, PROVIDERS } from "./render/settings.ts";

/** What an Installation asks for, before anybody has looked at the cluster. */
export interface Wanted {
  /** Families and replicas are those that the cluster then has room for. */
  readonly settings: InstallSettings;
  /** Undefined: the Installation does not say. */
  readonly pools: readonly PoolWish[] | undefined;
  readonly serviceCIDRs: readonly string[];
  readonly maxUnavailable: number;
  readonly permissions: ReadonlySet<Permission>;
  readonly problems: readonly Problem[];
  /** Fields that have no effect, and why where that is not plain. */
  readonly ignored: readonly string[];
}

/** Values that a field may have because they change nothing here. */
const ONLY: readonly (readonly [path: string, values: readonly string[], instead: string])[] = [
  ["variant", ["Calico"], "Gingham installs the variant Calico only: leave the field out"],
  ["cni.type", ["Calico"], "Gingham is the network plugin: leave the field out, or do not install Gingham"],
  [
    "cni.ipam.type",
    ["Calico"],
    "leave the field out; other IPAM plugins need a conflist of your own (docs/cni-config.md)",
  ],
  ["calicoNetwork.linuxDataplane", ["Nftables", "Iptables"], "Gingham has nftables only: leave the field out"],
  ["calicoNetwork.linuxPodInterfaceType", ["Veth"], "pods have veth pairs: leave the field out"],
  ["nonPrivileged", ["Disabled"], "the agent writes routes and sysctls of the host: leave the field out"],
];

/** Why a field that Tigera's operator heeds has no effect here. */
const REASONS: Readonly<Record<string, string>> = {
  "spec.calicoNetwork.bgp": "Gingham does not speak BGP yet: across subnets pools need an encapsulation",
  "spec.calicoNetwork.clusterRoutingMode": "the agent itself routes",
  "spec.cni.specVersion": "the agent takes the highest that all plugins of its node speak",
};

/** Reads a spec field by field: what cannot be used is a problem, what is not heeded is named, and nothing throws. */
export function readSpec({ metadata, spec = {} }: Installation, image: string): Wanted {
  const problems: Problem[] = [];
  const ignored: string[] = [];
  const root = new FieldReader("Installation", metadata.name, "spec", spec);
  const attempt = <T>(read: () => T, fallback: T): T => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof InvalidObjectError)) throw error;
      problems.push(invalid(error));
      return fallback;
    }
  };
  const nested = (reader: FieldReader, field: string): FieldReader =>
    attempt(
      () => reader.nested(field, reader.value(field) ?? {}),
      new FieldReader("Installation", metadata.name, `spec.${field}`, {}),
    );
  const enabled = (reader: FieldReader, field: string, fallback: boolean): boolean =>
    attempt(
      () => (reader.optionalEnum(field, ["Enabled", "Disabled"]) ?? (fallback ? "Enabled" : "Disabled")) === "Enabled",
      fallback,
    );

  const cni = nested(root, "cni");
  const ipam = nested(cni, "ipam");
  const network = nested(root, "calicoNetwork");
  const update = nested(root, "nodeUpdateStrategy");
  const rolling = nested(update, "rollingUpdate");
  const logging = nested(root, "logging");
  const cniLog = nested(logging, "cni");
  const v4 = nested(network, "nodeAddressAutodetectionV4");
  const v6 = nested(network, "nodeAddressAutodetectionV6");
  const readers: Readonly<Record<string, FieldReader>> = { "": root, cni, "cni.ipam": ipam, calicoNetwork: network };
  for (const [path, values, instead] of ONLY) {
    const dot = path.lastIndexOf(".");
    const reader = readers[path.slice(0, Math.max(0, dot))] ?? root;
    const value = attempt(() => reader.optionalString(path.slice(dot + 1)), undefined);
    if (value && !values.includes(value))
      problems.push({
        reason: "UnsupportedField",
        field: `spec.${path}`,
        message: `${JSON.stringify(value)}: ${instead}`,
      });
  }

  const fallback = DEFAULT_SETTINGS;
  const pools = attempt(
    () => (network.value("ipPools") === undefined ? undefined : readPools(network, problems)),
    undefined,
  );
  const cniSettings: CNISettings = {
    ...fallback.cni,
    binDir: attempt(() => absolute(cni, "binDir", fallback.cni.binDir), fallback.cni.binDir),
    confDir: attempt(() => absolute(cni, "confDir", fallback.cni.confDir), fallback.cni.confDir),
    install:
      attempt(() => cni.optionalEnum("installMode", ["All", "CalicoOnly"]), undefined) === "CalicoOnly"
        ? "OursOnly"
        : "All",
    hostPorts: enabled(network, "hostPorts", true),
    ipForwarding: enabled(network, "containerIPForwarding", false),
    sysctls: attempt(() => readSysctls(network), {}),
  };
  const method = (reader: FieldReader): string | undefined => attempt(() => autodetectionMethod(reader), undefined);
  const [methodV4, methodV6] = [method(v4), method(v6)];
  const settings: Wanted["settings"] = {
    image: attempt(() => readImage(root, image), image),
    imagePullSecrets: attempt(() => readNames(root, "imagePullSecrets"), []),
    provider: attempt(() => root.optionalEnum("kubernetesProvider", PROVIDERS) ?? "", ""),
    cni: cniSettings,
    mtuBytes: attempt(() => network.optionalInteger("mtu", 0, 65_535) ?? 0, 0),
    autodetection: { ...(methodV4 !== undefined && { v4: methodV4 }), ...(methodV6 !== undefined && { v6: methodV6 }) },
    nodeMetricsPort:
      attempt(() => root.optionalInteger("nodeMetricsPort", 1, 65_535), undefined) ?? fallback.nodeMetricsPort,
    nodeSelector: attempt(() => root.optionalStringMap("nodeSelector") ?? {}, {}),
    controlPlaneNodeSelector: attempt(() => root.optionalStringMap("controlPlaneNodeSelector") ?? {}, {}),
    controlPlaneReplicas:
      attempt(() => root.optionalInteger("controlPlaneReplicas", 1, 100), undefined) ?? fallback.controlPlaneReplicas,
    rollout: "Operator",
    logLevel:
      attempt(() => cniLog.optionalEnum("logSeverity", ["Debug", "Info", "Warning", "Error"]), undefined) ?? "Info",
  };
  const serviceCIDRs = attempt(() => root.strings("serviceCIDRs"), []);
  const maxUnavailable = attempt(() => rolling.optionalInteger("maxUnavailable", 1, 1000) ?? 1, 1);
  const strategy = attempt(() => update.optionalEnum("type", ["RollingUpdate"]), undefined);
  if (strategy === undefined && problems.length === 0 && update.value("type") !== undefined)
    ignored.push("spec.nodeUpdateStrategy.type");

  const unread: readonly (readonly [string, FieldReader])[] = [
    ["spec", root],
    ["spec.cni", cni],
    ["spec.cni.ipam", ipam],
    ["spec.calicoNetwork", network],
    ["spec.calicoNetwork.nodeAddressAutodetectionV4", v4],
    ["spec.calicoNetwork.nodeAddressAutodetectionV6", v6],
    ["spec.nodeUpdateStrategy", update],
    ["spec.nodeUpdateStrategy.rollingUpdate", rolling],
    ["spec.logging", logging],
    ["spec.logging.cni", cniLog],
  ];
  for (const [path, reader] of unread) ignored.push(...ignoredFields(path, reader.unread()));
  const permissions = readPermissions(metadata.annotations?.[ALLOW_ANNOTATION], problems);
  return { settings, pools, serviceCIDRs, maxUnavailable, permissions, problems, ignored };
}

function ignoredFields(path: string, unread: Readonly<Record<string, unknown>>): string[] {
  return Object.keys(unread).map((field) => {
    const name = `${path}.${field}`;
    const reason = REASONS[name];
    return reason === undefined ? name : `${name} (${reason})`;
  });
}

function invalid(error: InvalidObjectError): Problem {
  const message = error.message
    .replace(/^Installation [^:]*: /, "")
    .replace(`${error.field} `, "")
    .replace("; correct or delete the object", "");
  return { reason: "InvalidField", field: error.field, message: `${message}; correct the field` };
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

function readNames(root: FieldReader, field: string): string[] {
  return root.list(field, (value, element) => root.nested(element, value).string("name"));
}

/** Registry, path and prefix replace those parts of the operator's own image. Source: calico-interop 6.1. */
function readImage(root: FieldReader, own: string): string {
  const parts = ["registry", "imagePath", "imagePrefix"].map((field) => {
    const text = root.optionalString(field);
    return text === undefined || text === "" || text === "UseDefault" ? undefined : text;
  });
  const [registry, path, prefix = ""] = parts;
  const segments = own.split("/");
  const file = segments.at(-1) ?? "";
  // A registry has a dot, a port, or is localhost; all else is a path.
  const hasRegistry = segments.length > 1 && /[.:]|^localhost$/.test(segments[0] ?? "");
  const ownRegistry = hasRegistry ? (segments[0] ?? "") : "";
  const ownPath = segments.slice(hasRegistry ? 1 : 0, -1).join("/");
  return [(registry ?? ownRegistry).replace(/\/$/, ""), path ?? ownPath, prefix + file]
    .filter((part) => part !== "")
    .join("/");
}

function readPermissions(text: string | undefined, problems: Problem[]): ReadonlySet<Permission> {
  const permissions = new Set<Permission>();
  for (const name of (text ?? "").split(",").map((word) => word.trim())) {
    if (name === "") continue;
    const permission = PERMISSIONS.find((known) => known === name);
    if (permission !== undefined) permissions.add(permission);
    else {
      const message = `${JSON.stringify(name)} is not known; there are ${PERMISSIONS.join(", ")}`;
      problems.push({ reason: "InvalidField", field: `metadata.annotations[${ALLOW_ANNOTATION}]`, message });
    }
  }
  return permissions;
}

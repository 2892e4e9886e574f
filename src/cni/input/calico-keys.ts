// SPDX-License-Identifier: Apache-2.0
import type { FieldReader } from "../../crds/field-reader.ts";
import { CNIError } from "../errors.ts";

type Kind = "text" | "switch" | "integer" | "number" | "list";

/**
 * Keys of Calico's plugin that have no effect here, by section: either the agent knows better (its own node name, MTU,
 * credentials and log), or what they set does not exist. Their types are checked as Calico's plugin checks them, so that
 * a configuration which one of the two takes is taken by the other. docs/cni-config.md says of each why.
 *
 * Source: calico-interop 3.2.
 */
const WITHOUT_EFFECT: Readonly<Record<string, Readonly<Record<string, Kind>>>> = {
  "": {
    nodename_file_optional: "switch",
    hostname: "text",
    require_mtu_file: "switch",
    log_level: "text",
    log_file_path: "text",
    log_file_max_size: "integer",
    log_file_max_age: "integer",
    log_file_max_count: "integer",
    ipam_lock_file: "text",
    policy_setup_timeout_seconds: "integer",
    endpoint_status_dir: "text",
    qps: "number",
    burst: "integer",
    mode: "text",
    etcd_endpoints: "text",
    etcd_authority: "text",
    etcd_discovery_srv: "text",
    etcd_scheme: "text",
    etcd_key_file: "text",
    etcd_cert_file: "text",
    etcd_ca_cert_file: "text",
  },
  ipam: { subnet: "text", ranges: "list" },
  kubernetes: { k8s_api_root: "text", node_name: "text" },
  policy: {
    type: "text",
    k8s_api_root: "text",
    k8s_auth_token: "text",
    k8s_client_certificate: "text",
    k8s_client_key: "text",
    k8s_certificate_authority: "text",
  },
  feature_control: { ip_addrs_no_ipam: "switch", floating_ips: "switch" },
};

/** Each of them makes Calico's plugin choose etcd when `datastore_type` is not set. */
const ETCD_ADDRESSES = ["etcd_endpoints", "etcd_authority", "etcd_discovery_srv"];
const API_GROUP = "crd.projectcalico.org/v1";

/**
 * Checks what a configuration of Calico's holds besides what Gingham reads.
 *
 * @throws InvalidObjectError for a wrong type, CNIError `UnsupportedField` for what Gingham cannot do
 */
export function checkCalicoKeys(conf: FieldReader): void {
  for (const [name, keys] of Object.entries(WITHOUT_EFFECT)) {
    const section = name === "" ? conf : optionalSection(conf, name);
    if (section === undefined) continue;
    for (const [key, kind] of Object.entries(keys)) checkType(section, key, kind);
  }
  // Netkit falls back to veth in Calico's plugin, too, where the kernel has none.
  conf.optionalEnum("device_type", ["veth", "netkit"]);
  refuseOtherDatastores(conf);
  refuseOtherGroups(conf);
  const dataplane = optionalSection(conf, "dataplane_options")?.optionalString("type") ?? "";
  if (dataplane === "grpc") {
    throw unsupported("dataplane_options.type", dataplane, "Gingham wires pods itself; remove dataplane_options");
  }
}

/** The specification wants key and value in the message of code 2. */
export function unsupported(key: string, value: string, reason: string): CNIError {
  return new CNIError("UnsupportedField", `Network configuration: ${key} is ${JSON.stringify(value)}: ${reason}`);
}

function refuseOtherDatastores(conf: FieldReader): void {
  const named = conf.optionalString("datastore_type") ?? "";
  const etcd = Object.keys(WITHOUT_EFFECT[""] ?? {}).filter((key) => key.startsWith("etcd_") && conf.value(key));
  const usesEtcd = named === "" && etcd.some((key) => ETCD_ADDRESSES.includes(key));
  if (!usesEtcd && (named === "" || named === "kubernetes")) return;
  const keys = etcd.length === 0 ? "" : `; remove ${etcd.join(", ")}`;
  const step = `only the Kubernetes API is supported: set datastore_type to kubernetes${keys}`;
  if (named !== "") throw unsupported("datastore_type", named, step);
  const [key = ""] = etcd;
  throw unsupported(
    key,
    conf.optionalString(key) ?? "",
    `it chooses etcd while datastore_type is not set, and ${step}`,
  );
}

function refuseOtherGroups(conf: FieldReader): void {
  const group = conf.optionalString("calico_api_group") ?? "";
  if (group === "" || group === API_GROUP) return;
  const reason = `Gingham reads and writes ${API_GROUP} alone; remove the key, or set it to that`;
  throw unsupported("calico_api_group", group, reason);
}

function checkType(reader: FieldReader, key: string, kind: Kind): void {
  switch (kind) {
    case "text":
      reader.optionalString(key);
      return;
    case "switch":
      reader.optionalBoolean(key);
      return;
    case "integer":
      reader.optionalInteger(key, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
      return;
    case "number": {
      const value = reader.value(key);
      if (value !== undefined && typeof value !== "number") throw reader.fail(key, value, "a number");
      return;
    }
    case "list":
      reader.list(key, () => undefined);
      return;
    default:
      kind satisfies never;
  }
}

function optionalSection(parent: FieldReader, field: string): FieldReader | undefined {
  return parent.value(field) === undefined ? undefined : parent.nested(field);
}

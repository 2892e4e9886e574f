// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { CNIError } from "../errors.ts";
import { parseNetConf } from "./netconf.ts";

const MINIMAL = { cniVersion: "1.0.0", name: "net", type: "gingham" };

function answerTo(raw: object): string {
  try {
    parseNetConf({ ...MINIMAL, ...raw });
    return "accepted";
  } catch (error) {
    if (error instanceof CNIError) return `${error.cniCode} ${error.message}`;
    throw error;
  }
}

/** What Calico's installers write, with each optional key set. Source: calico-interop 3.2. */
const CALICO = {
  name: "k8s-pod-network",
  cniVersion: "0.3.1",
  type: "calico",
  log_level: "Info",
  log_file_path: "/var/log/calico/cni/cni.log",
  log_file_max_size: 100,
  log_file_max_age: 30,
  log_file_max_count: 10,
  datastore_type: "kubernetes",
  calico_api_group: "crd.projectcalico.org/v1",
  nodename: "node-a",
  nodename_file: "/var/lib/calico/nodename",
  nodename_file_optional: false,
  hostname: "node-a",
  mtu: 0,
  require_mtu_file: false,
  num_queues: 1,
  ipam: {
    type: "calico-ipam",
    assign_ipv4: "true",
    assign_ipv6: "false",
    ipv4_pools: ["default-ipv4-ippool"],
    subnet: "usePodCidr",
    ranges: [[{ subnet: "usePodCidr" }]],
  },
  ipam_lock_file: "/var/run/calico/ipam.lock",
  policy: { type: "k8s" },
  kubernetes: { kubeconfig: "/etc/cni/net.d/calico-kubeconfig", k8s_api_root: "https://10.96.0.1:443", node_name: "n" },
  container_settings: { allow_ip_forwarding: false },
  include_default_routes: false,
  feature_control: { ip_addrs_no_ipam: true, floating_ips: true },
  readiness_gates: ["http://localhost:9099/readiness"],
  policy_setup_timeout_seconds: 0,
  endpoint_status_dir: "/var/run/calico/endpoint-status",
  device_type: "netkit",
  dataplane_options: { type: "", socket: "" },
  qps: 5.5,
  burst: 10,
  mode: "",
  etcd_endpoints: "",
  etcd_authority: "",
  etcd_discovery_srv: "",
  etcd_scheme: "",
  etcd_key_file: "",
  etcd_cert_file: "",
  etcd_ca_cert_file: "",
  windows_use_single_network: true,
  vxlan_vni: 4096,
  capabilities: { io: true },
  some_key_of_tomorrow: [1],
};

describe("a Calico configuration", () => {
  it("is accepted with every key that Calico's plugin has", () => {
    expect(answerTo(CALICO)).toBe("accepted");
  });

  it.each(Object.keys(CALICO).filter((key) => key !== "name"))("is accepted with null for %s, as Go does", (key) => {
    expect(answerTo({ ...CALICO, [key]: null })).toBe("accepted");
  });

  it("may use etcd's keys beside the Kubernetes datastore, which do nothing then", () => {
    expect(answerTo({ datastore_type: "kubernetes", etcd_endpoints: "http://127.0.0.1:2379" })).toBe("accepted");
  });

  it.each([
    [{ log_level: 3 }, "7", "log_level is 3"],
    [{ log_file_max_size: "100" }, "7", 'log_file_max_size is "100"'],
    [{ nodename_file_optional: "true" }, "7", 'nodename_file_optional is "true"'],
    [{ require_mtu_file: 1 }, "7", "require_mtu_file is 1"],
    [{ include_default_routes: "yes" }, "7", 'include_default_routes is "yes"'],
    [{ readiness_gates: "http://x" }, "7", 'readiness_gates is "http://x"'],
    [{ readiness_gates: [1] }, "7", "readiness_gates[0] is 1"],
    [{ readiness_gates: ["http://a", "localhost:9099"] }, "7", 'readiness_gates[1] is "localhost:9099", want an http'],
    [{ policy_setup_timeout_seconds: 1.5 }, "7", "policy_setup_timeout_seconds is 1.5"],
    [{ qps: "5" }, "7", 'qps is "5"'],
    [{ burst: 1.5 }, "7", "burst is 1.5"],
    [{ ipam: { subnet: 1 } }, "7", "ipam.subnet is 1"],
    [{ ipam: { ranges: "usePodCidr" } }, "7", "ipam.ranges is"],
    [{ policy: "k8s" }, "7", "policy is"],
    [{ policy: { type: 1 } }, "7", "policy.type is 1"],
    [{ kubernetes: { node_name: 1 } }, "7", "kubernetes.node_name is 1"],
    [{ feature_control: { floating_ips: "true" } }, "7", 'feature_control.floating_ips is "true"'],
    [{ device_type: "ipvlan" }, "7", 'device_type is "ipvlan", want one of veth, netkit'],
    [{ dataplane_options: [] }, "7", "dataplane_options is"],
    [{ dataplane_options: { type: "grpc", socket: "/run/x" } }, "2", 'dataplane_options.type is "grpc"'],
    [{ calico_api_group: "projectcalico.org/v3" }, "2", 'calico_api_group is "projectcalico.org/v3"'],
    [{ datastore_type: "etcdv3" }, "2", 'datastore_type is "etcdv3": only the Kubernetes API'],
    [{ datastore_type: "etcdv3", etcd_key_file: "/k" }, "2", "remove etcd_key_file"],
    [{ etcd_endpoints: "http://e:2379", etcd_key_file: "/k" }, "2", "remove etcd_endpoints, etcd_key_file"],
  ])("is refused for %j by name", (raw, code, words) => {
    const answer = answerTo(raw);
    expect(answer.split(" ")[0]).toBe(code);
    expect(answer).toContain(words);
  });
});

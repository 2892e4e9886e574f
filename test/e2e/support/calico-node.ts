// SPDX-License-Identifier: Apache-2.0
import { createHash } from "node:crypto";
import { affinityLabels } from "../../../src/crds/labels.ts";
import type { RemoteLab } from "../../../src/lab/remote.ts";
import type { RunResult } from "../../../src/lab/run.ts";
import { parseCIDR } from "../../../src/net/cidr.ts";

/** A pod that Calico's plugin has made, as its runtime knows it. */
export interface CalicoPod {
  readonly name: string;
  readonly ip: string;
  readonly containerID: string;
  readonly hostIface: string;
  /** As containerd names it. */
  readonly netns: string;
}

/** Nanoseconds, beyond what a double holds exactly. */
const SEQUENCE = 1787395200123456789n;
const NETWORK = "k8s-pod-network";

/**
 * Makes of a node of the laboratory, whose agent does not run, what Calico leaves of a node: its objects in the datastore, pods
 * wired by its plugin, routes of plugin, Felix and BIRD, and Felix's chains, which drop what comes from interfaces that Felix
 * does not know. Source: calico-interop 1, 3.4 to 3.8, 4.2, 4.6, 4.12.
 */
export class CalicoNode {
  readonly #lab: RemoteLab;
  readonly #node: string;
  readonly #block: string;
  readonly #pods: CalicoPod[] = [];

  constructor(lab: RemoteLab, node: string, block: string) {
    this.#lab = lab;
    this.#node = node;
    this.#block = block;
  }

  /** Objects, pods in the order of the block's addresses, routes and chains. @param peers blocks of other nodes */
  async build(
    names: readonly string[],
    peers: readonly { readonly block: string; readonly via: string }[],
  ): Promise<void> {
    const [base = "", last = "0"] = /^(.*\.)(\d+)\//.exec(this.#block)?.slice(1) ?? [];
    for (const [i, name] of names.entries()) {
      const containerID = createHash("sha256").update(name).digest("hex");
      const hostIface = `cali${createHash("sha1").update(`default.${name}`).digest("hex").slice(0, 11)}`;
      this.#pods.push({
        name,
        ip: `${base}${Number(last) + i}`,
        containerID,
        hostIface,
        netns: `/var/run/netns/cni-${name}`,
      });
    }
    await this.#createObjects();
    for (const [i, pod] of this.#pods.entries()) await this.sh(renderWiring(pod, i % 2 === 0));
    for (const { block, via } of peers) await this.sh(`ip route add ${block} via ${via} dev eth0 proto bird onlink`);
    await this.sh(`ip route add blackhole ${this.#block} proto bird`);
    await this.sh(renderChains(this.#pods));
  }

  get pods(): readonly CalicoPod[] {
    return this.#pods;
  }

  sh(script: string): Promise<string> {
    return shell(this.#lab, this.#node, script);
  }

  /** The runtime's DEL of a pod, by whatever plugin is configured now; the pod's object goes as well. */
  async remove(pod: CalicoPod): Promise<void> {
    await this.sh(`${renderCall("DEL", pod)}; ip netns del cni-${pod.name}`);
    await kubectl(this.#lab, ["delete", "pod", pod.name, "--wait=false"]);
  }

  /** The runtime's CHECK of a pod, with what Calico's plugin has answered. @throws Error with the plugin's words */
  async check(pod: CalicoPod): Promise<void> {
    const prevResult = {
      cniVersion: "1.0.0",
      interfaces: [{ name: pod.hostIface }, { name: "eth0", sandbox: pod.netns }],
      ips: [{ address: `${pod.ip}/32`, interface: 1 }],
      routes: [{ dst: this.#block }],
    };
    await this.sh(renderCall("CHECK", pod, { prevResult }));
  }

  async #createObjects(): Promise<void> {
    const pods = this.#pods;
    const name = this.#block.replace(/[./]/g, "-");
    const group = "crd.projectcalico.org/v1";
    const attributes = pods.map(({ name: pod, containerID }) => ({
      handle_id: `${NETWORK}.${containerID}`,
      secondary: { namespace: "default", node: this.#node, pod, timestamp: "2026-08-22 10:00:00.123 +0000 UTC" },
    }));
    const allocations = Array.from({ length: 64 }, (_, i) => (i < pods.length ? i : null));
    const block = {
      apiVersion: group,
      kind: "IPAMBlock",
      metadata: { name },
      spec: {
        cidr: this.#block,
        affinity: `host:${this.#node}`,
        allocations,
        unallocated: allocations.flatMap((held, i) => (held === null ? [i] : [])),
        attributes,
        sequenceNumber: "SEQUENCE",
        sequenceNumberForAllocation: Object.fromEntries(pods.map((_, i) => [String(i), `SEQUENCE${i}`])),
        deleted: false,
        strictAffinity: false,
      },
    };
    const affinity = {
      apiVersion: group,
      kind: "BlockAffinity",
      metadata: { name: `${this.#node}-${name}`, labels: affinityLabels(this.#node, parseCIDR(this.#block)) },
      spec: { state: "confirmed", node: this.#node, type: "host", cidr: this.#block, deleted: "false" },
    };
    const handles = pods.map(({ containerID }) => ({
      apiVersion: group,
      kind: "IPAMHandle",
      metadata: { name: `${NETWORK}.${containerID}` },
      spec: { handleID: `${NETWORK}.${containerID}`, block: { [this.#block]: 1 }, deleted: false },
    }));
    const objects = pods.map(({ name: pod }) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: pod, namespace: "default" },
      spec: { nodeName: this.#node, containers: [{ name: "main", image: "none" }] },
    }));
    // As calico-node makes it at its first start; the others that it makes are the laboratory's own, too.
    const felix = {
      apiVersion: group,
      kind: "FelixConfiguration",
      metadata: { name: "default" },
      spec: { bpfLogLevel: "", floatingIPs: "Disabled", logSeverityScreen: "Info", reportingInterval: "0s" },
    };
    const address = await this.sh("ip -o -4 addr show eth0 | awk '{ print $4 }'");
    const annotation = `projectcalico.org/IPv4Address=${address.trim()}`;
    await kubectl(this.#lab, ["annotate", "--overwrite", "node", this.#node, annotation]);
    for (const object of [felix, block, affinity, ...handles, ...objects]) {
      const numbers = (_: string, n: string): string => String(n === "" ? SEQUENCE : SEQUENCE - 10n + BigInt(n));
      const text = JSON.stringify(object).replace(/"SEQUENCE(\d*)"/g, numbers);
      await kubectl(this.#lab, ["create", "--validate=false", "-f", "-"], text);
    }
    for (const { name: pod, ip, containerID } of pods) {
      const annotations = {
        "cni.projectcalico.org/podIP": `${ip}/32`,
        "cni.projectcalico.org/podIPs": `${ip}/32`,
        "cni.projectcalico.org/containerID": containerID,
      };
      const status = { phase: "Running", podIP: ip, podIPs: [{ ip }] };
      const patch = JSON.stringify({ metadata: { annotations }, status });
      await kubectl(this.#lab, ["patch", "pod", pod, "--subresource=status", "--type=merge", "-p", patch]);
    }
  }
}

/** As the plugin leaves it: with its own route, or as Felix has replaced that one. */
function renderWiring({ name, ip, hostIface }: CalicoPod, hasFelixSeen: boolean): string {
  return `
    ip netns add cni-${name}
    ip link add ${hostIface} type veth peer name eth0 netns cni-${name}
    ip link set ${hostIface} address ee:ee:ee:ee:ee:ee
    ip -n cni-${name} link set lo up
    ip -n cni-${name} link set eth0 up
    ip -n cni-${name} addr add ${ip}/32 dev eth0
    ip -n cni-${name} route add 169.254.1.1 dev eth0 scope link
    ip -n cni-${name} route add default via 169.254.1.1 dev eth0
    echo 0 > /proc/sys/net/ipv4/neigh/${hostIface}/proxy_delay
    echo 0 > /proc/sys/net/ipv6/conf/${hostIface}/accept_ra
    for key in route_localnet proxy_arp forwarding; do echo 1 > /proc/sys/net/ipv4/conf/${hostIface}/$key; done
    ip link set ${hostIface} up
    ip route add ${ip} dev ${hostIface} scope link proto boot ${hasFelixSeen ? "metric 1024" : ""}`;
}

function renderChains(pods: readonly CalicoPod[]): string {
  const known = pods.map(({ hostIface }) => `iptables -A cali-from-wl-dispatch -i ${hostIface} -j RETURN`);
  return `
    iptables -N cali-FORWARD; iptables -N cali-from-wl-dispatch
    ${known.join("\n")}
    iptables -A cali-from-wl-dispatch -m comment --comment "cali: Unknown interface" -j DROP
    iptables -A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
    iptables -I FORWARD -j cali-FORWARD`;
}

function renderCall(verb: string, { name, containerID, netns }: CalicoPod, more: object = {}): string {
  const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${name};K8S_POD_INFRA_CONTAINER_ID=${containerID}`;
  const env = `CNI_COMMAND=${verb} CNI_CONTAINERID=${containerID} CNI_NETNS=${netns} CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin CNI_ARGS='${args}'`;
  const conf = { cniVersion: "1.0.0", name: NETWORK, type: "gingham", ipam: { type: "gingham-ipam" }, ...more };
  return `echo '${JSON.stringify(conf)}' | env ${env} /opt/cni/bin/gingham`;
}

export async function shell(lab: RemoteLab, target: string, script: string): Promise<string> {
  return expectOk(await lab.exec(target, ["bash", "-euc", script]), script);
}

export async function kubectl(lab: RemoteLab, args: readonly string[], input?: string): Promise<string> {
  return expectOk(await lab.kubectl(args, input), args.join(" "));
}

function expectOk({ exitCode, stdout, stderr }: RunResult, what: string): string {
  if (exitCode !== 0) throw new Error(`${what} exited with ${exitCode}: ${stderr}${stdout}`);
  return stdout;
}

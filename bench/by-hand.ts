// SPDX-License-Identifier: Apache-2.0
import type { RemoteLab } from "../src/lab/remote.ts";

/** A namespace behind a veth, as people make it in tutorials: what the plugin's pods are measured beside. */
export interface HandPod {
  readonly node: string;
  readonly namespace: string;
  readonly ip: string;
  /** That of the pods, or segments would differ. */
  readonly mtuBytes: number;
}

/** @param ways how the node reaches others by hand: destination, and what `ip route` says after it */
export async function wireByHand(
  lab: RemoteLab,
  { node, namespace, ip, mtuBytes }: HandPod,
  ways: Readonly<Record<string, string>> = {},
): Promise<void> {
  await runOn(
    lab,
    node,
    `ip netns add ${namespace}
    ip link add ${namespace}0 mtu ${mtuBytes} type veth peer name eth0 mtu ${mtuBytes} netns ${namespace}
    ip link set ${namespace}0 up
    ip -n ${namespace} addr add ${ip}/32 dev eth0
    ip -n ${namespace} link set eth0 up
    ip -n ${namespace} link set lo up
    ip addr add 169.254.9.1/32 dev ${namespace}0
    ip -n ${namespace} route add 169.254.9.1 dev eth0 scope link
    ip -n ${namespace} route add default via 169.254.9.1
    ip route add ${ip} dev ${namespace}0
    ${Object.entries(ways)
      .map(([to, way]) => `ip route add ${to} ${way}`)
      .join("\n")}`,
  );
}

const NODE_IPS = { "node-1": "172.30.0.11", "node-2": "172.30.0.12" } as const;
/** Of the node on the segment. */
export const wayTo = (node: keyof typeof NODE_IPS): string => `via ${NODE_IPS[node]}`;

/** A VXLAN of two nodes with the port of Gingham's own, and how each reaches the other through it. */
export async function tunnelByHand(lab: RemoteLab): Promise<(to: "node-1" | "node-2") => string> {
  const end = (i: number) => ({ ip: `10.98.0.${i}`, mac: `02:00:00:00:77:0${i}`, nodeIP: `172.30.0.1${i}` });
  for (const i of [1, 2]) {
    const [own, other] = [end(i), end(3 - i)];
    await runOn(
      lab,
      `node-${i}`,
      `ip link add hand.vxlan type vxlan id 77 dstport 4789 local ${own.nodeIP} dev eth0 nolearning
      ip link set hand.vxlan address ${own.mac} mtu 1450 up
      ip addr add ${own.ip}/32 dev hand.vxlan
      ip neigh add ${other.ip} lladdr ${other.mac} dev hand.vxlan nud permanent
      bridge fdb add ${other.mac} dev hand.vxlan dst ${other.nodeIP} self permanent`,
    );
  }
  return (to) => `via ${end(to === "node-1" ? 1 : 2).ip} dev hand.vxlan onlink`;
}

/** Units: bytes. */
export async function podMTU(lab: RemoteLab, pod: string): Promise<number> {
  const { stdout } = await lab.exec(pod, ["ip", "-j", "link", "show", "eth0"]);
  const [{ mtu = 0 } = {}] = JSON.parse(stdout) as { readonly mtu?: number }[];
  return mtu;
}

async function runOn(lab: RemoteLab, node: string, script: string): Promise<void> {
  const { exitCode, stderr } = await lab.exec(node, ["sh", "-euc", script]);
  if (exitCode !== 0) throw new Error(`Cannot wire ${node} by hand: ${stderr}`);
}

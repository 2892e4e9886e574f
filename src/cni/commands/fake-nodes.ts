// SPDX-License-Identifier: Apache-2.0
import { projectReservation, type Reservation } from "../../crds/ip-reservation.ts";
import { expectSound, setUp } from "../../ipam/fake-node.ts";
import { heldAddresses } from "../../ipam/gc/addresses.ts";
import { MemoryStore } from "../../ipam/memory-store.ts";
import { releaseHeld } from "../../ipam/release-held.ts";
import { parseIP } from "../../net/ip.ts";
import { execute } from "../executor.ts";
import { CONF, FakeMachine } from "../fake-cni.ts";
import type { PodInfo } from "../ports.ts";
import type { CNI } from "./cni.ts";

export type NodeName = "node-a" | "node-b";

/** What a test varies of a call. */
export interface NodeCallOptions {
  readonly args?: string;
  readonly ifName?: string;
  readonly conf?: object;
  /** Absent: that of the pod that has the name now. */
  readonly uid?: string;
}

interface Answer {
  readonly ips?: readonly { readonly address: string }[];
  readonly code?: number;
  readonly msg?: string;
}

const POOLS = [
  { cidr: "10.0.0.0/24", blockSize: 28 },
  { cidr: "fd00::/120", blockSize: 124 },
];

/** The commands of two nodes over real allocators, which share a store; what the API server says is the test's to set. */
export class FakeNodes implements Disposable {
  readonly store: MemoryStore = new MemoryStore();
  readonly machines: Readonly<Record<NodeName, FakeMachine>> = {
    "node-a": new FakeMachine(),
    "node-b": new FakeMachine(),
  };
  readonly nodes: Record<NodeName, CNI>;
  /** By name, all in one namespace. */
  readonly pods: Map<string, PodInfo> = new Map();
  reservations: Reservation[] = [];
  /** Nodes that are marked as out of service. */
  readonly lost: Set<string> = new Set();
  /** Addresses to which the kernels have routes. */
  readonly routes: Set<string> = new Set();

  /** @param reserved networks that automatic assignment leaves alone */
  constructor(reserved: readonly string[] = []) {
    this.nodes = { "node-a": this.#start("node-a", reserved), "node-b": this.#start("node-b", reserved) };
  }

  [Symbol.dispose](): void {
    for (const machine of Object.values(this.machines)) machine[Symbol.dispose]();
    expectSound(this.store);
  }

  #start(nodeName: NodeName, reserved: readonly string[]): CNI {
    const { store } = this;
    const { allocator, clock } = setUp({ node: nodeName, shared: store, pools: POOLS, reserved });
    const { cni } = this.machines[nodeName].start();
    return {
      ...cni,
      addresses: allocator,
      host: { ...cni.host, nodeName },
      pods: {
        get: async ({ name, uid }) => {
          const pod = this.pods.get(name);
          return uid === undefined || pod?.uid === uid ? pod : undefined;
        },
      },
      reservations: { owned: async () => this.reservations },
      holders: {
        pod: async (_namespace, name) => this.pods.get(name),
        isOutOfService: async (node) => this.lost.has(node),
        routed: async () => this.routes,
        takeAway: (held) => releaseHeld({ store, clock, random: () => 0.5 }, held),
      },
    };
  }

  /** A pod whose name ends in a number has a StatefulSet as its controller. */
  setPod(name: string, uid: string, nodeName: NodeName, annotations: Record<string, string> = {}): void {
    const set = /^(.*)-\d+$/.exec(name)?.[1];
    const controller = set === undefined ? {} : { controller: { kind: "StatefulSet", name: set } };
    this.pods.set(name, { uid, labels: {}, annotations, nodeName, ...controller });
  }

  reserve(name: string, reservedCIDRs: readonly string[], kind = "StatefulSet", owner = "web"): void {
    const labels = {
      "gingham.dev/owner-kind": kind,
      "gingham.dev/owner-namespace": "default",
      "gingham.dev/owner-name": owner,
    };
    const head = { apiVersion: "crd.projectcalico.org/v1", kind: "IPReservation" };
    this.reservations.push(projectReservation({ ...head, metadata: { name, labels }, spec: { reservedCIDRs } }));
  }

  async call(
    node: NodeName,
    command: string,
    pod: string,
    container: string,
    options: NodeCallOptions = {},
  ): Promise<Answer> {
    const { uid = this.pods.get(pod)?.uid, args = "", ifName = "eth0", conf = {} } = options;
    const names = `K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod};${uid === undefined ? "" : `K8S_POD_UID=${uid};`}`;
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: container,
      CNI_IFNAME: ifName,
      CNI_NETNS: `/run/netns/${container}`,
      CNI_ARGS: pod === "" ? args : `${names}${args}`,
    };
    const { stdout } = await execute(this.nodes[node], env, JSON.stringify({ ...CONF, ...conf }));
    return stdout === "" ? {} : (JSON.parse(stdout) as Answer);
  }

  /** Addresses of an ADD in a namespace of its own, or its error. */
  async add(node: NodeName, pod: string, container: string, options: NodeCallOptions = {}): Promise<string> {
    this.machines[node].kernel.addNetns(`/run/netns/${container}`);
    const { ips, code, msg } = await this.call(node, "ADD", pod, container, options);
    return ips === undefined ? `${code}: ${msg}` : ips.map(({ address }) => address).join(" ");
  }

  /** Handle and node of whoever has the address. */
  holderOf(ip: string): string | undefined {
    const held = this.store.all("block").flatMap(({ spec }) => heldAddresses(spec));
    const found = held.find((address) => address.ip === parseIP(ip));
    return found && `${found.handleID} on ${found.attributes["node"]}`;
  }
}

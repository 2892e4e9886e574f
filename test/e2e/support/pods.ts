// SPDX-License-Identifier: Apache-2.0
import { POD_NAMESPACE } from "../../../src/lab/cluster-objects.ts";
import { type Machine, NODE_NAME } from "./containerd-machine.ts";
import type { SandboxConfig } from "./cri.ts";
import { BUSYBOX_IMAGE } from "./image.ts";
import { kubectl } from "./stack.ts";

/** What a test asks of a pod beside its name. */
export type PodExtra = Partial<Pick<SandboxConfig, "annotations" | "port_mappings">>;

/** Creates the Pod objects. @returns for each what kubelet would ask of the runtime, in the same order */
export async function createPods(
  machine: Machine,
  pods: Readonly<Record<string, PodExtra>>,
): Promise<readonly SandboxConfig[]> {
  const spec = { nodeName: NODE_NAME, containers: [{ name: "main", image: BUSYBOX_IMAGE }] };
  const items = Object.entries(pods).map(([name, { annotations = {} }]) => {
    return { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: POD_NAMESPACE, annotations }, spec };
  });
  const list = JSON.stringify({ apiVersion: "v1", kind: "List", items });
  const template = '{.metadata.name} {.metadata.uid}{"\\n"}';
  const created = await kubectl(machine, ["create", "-f", "-", "-o", `jsonpath=${template}`], list);
  const uids = new Map(created.split("\n").map((line) => line.split(" ") as [string, string]));
  return Object.entries(pods).map(([name, extra]) => {
    const uid = uids.get(name);
    if (uid === undefined) throw new Error(`kubectl made no pod ${name}: ${created}`);
    return {
      metadata: { name, uid, namespace: POD_NAMESPACE, attempt: 0 },
      hostname: name,
      log_directory: "/run/stack",
      port_mappings: [],
      annotations: {},
      linux: { cgroup_parent: machine.cgroup },
      ...extra,
    };
  });
}

// SPDX-License-Identifier: Apache-2.0
import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PODS } from "../crds/core.ts";
import type { KubeClient } from "../kube/api.ts";
import { POD_NAMESPACE, renderPod } from "./cluster-objects.ts";
import { type AddResult, type Attachment, CNIRuntime, parseConflist, type ResultCache } from "./cni-runtime.ts";
import { enterNodeArgv } from "./namespaces.ts";
import { run, runOk } from "./run.ts";
import { CNI_BIN_DIR, CNI_CONF_DIR, type LabNode } from "./topology.ts";
import type { LabPod, PodRequest } from "./types.ts";

/** Kubelet's and containerd's part in a pod: the object, the namespace, the plugins, the status. */

/** A pod, and what its DEL needs. */
export interface RunningPod extends LabPod {
  readonly attachment: Attachment;
}

/** @throws PluginError after DEL has run and the Pod object is gone */
export async function addPod(client: KubeClient, node: LabNode, request: PodRequest): Promise<RunningPod> {
  const pod = await client.create(PODS, renderPod(request), { namespace: POD_NAMESPACE });
  const netnsName = `cni-${randomUUID()}`;
  const netns = `/run/netns/${netnsName}`;
  const containerID = createHash("sha256").update(netnsName).digest("hex");
  const attachment = renderAttachment(request, { uid: pod.metadata.uid ?? "", containerID, netns });
  const runtime = await createRuntime(node);
  try {
    await runOk([
      ...enterNodeArgv(node.holderPid),
      "sh",
      "-euc",
      `ip netns add ${netnsName}; ip -n ${netnsName} link set lo up`,
    ]);
    const ips = addressesOf(await runtime.add(attachment));
    const status = renderPodStatus(ips);
    await client.patch(
      PODS,
      request.name,
      { type: "merge", body: { status } },
      { namespace: POD_NAMESPACE, subresource: "status" },
    );
    return { name: request.name, node: node.name, containerID, netns, ips, attachment };
  } catch (error) {
    await runtime.del(attachment).catch(() => {});
    await deleteNetns(node, netnsName);
    await client.delete(PODS, request.name, { namespace: POD_NAMESPACE }).catch(() => {});
    throw error;
  }
}

/** What kubelet writes once the pod runs. */
function renderPodStatus(ips: readonly string[]): object {
  const container = { name: "main", ready: true, restartCount: 0, image: "", imageID: "", state: { running: {} } };
  return {
    phase: "Running",
    podIP: ips[0] ?? "",
    podIPs: ips.map((ip) => ({ ip })),
    conditions: [{ type: "Ready", status: "True" }],
    containerStatuses: [container],
  };
}

export async function delPod(client: KubeClient, node: LabNode, pod: RunningPod): Promise<void> {
  const runtime = await createRuntime(node);
  await runtime.del(pod.attachment);
  await deleteNetns(node, pod.netns.slice(pod.netns.lastIndexOf("/") + 1));
  await runtime.del({ ...pod.attachment, netns: "" });
  await client.delete(PODS, pod.name, { namespace: POD_NAMESPACE });
}

/** The keys are spelled as Go spells them, since containerd's own structs have no JSON names. */
function renderAttachment(
  request: PodRequest,
  sandbox: { readonly uid: string; readonly containerID: string; readonly netns: string },
): Attachment {
  const { hostPort, bandwidth } = request;
  return {
    containerID: sandbox.containerID,
    netns: sandbox.netns,
    ifName: "eth0",
    args: [
      ["IgnoreUnknown", "1"],
      ["K8S_POD_NAMESPACE", POD_NAMESPACE],
      ["K8S_POD_NAME", request.name],
      ["K8S_POD_INFRA_CONTAINER_ID", sandbox.containerID],
      ["K8S_POD_UID", sandbox.uid],
    ],
    capabilityArgs: {
      "io.kubernetes.cri.pod-annotations": request.annotations ?? {},
      ...(hostPort === undefined
        ? {}
        : {
            portMappings: [
              { HostPort: hostPort.hostPort, ContainerPort: hostPort.containerPort, Protocol: "tcp", HostIP: "" },
            ],
          }),
      ...(bandwidth === undefined
        ? {}
        : {
            bandwidth: {
              IngressRate: bandwidth.rateBits,
              IngressBurst: bandwidth.burstBits,
              EgressRate: bandwidth.rateBits,
              EgressBurst: bandwidth.burstBits,
            },
          }),
    },
  };
}

/** Reads the configuration that lies on the node, as a runtime does: the first file in alphabetical order. */
async function createRuntime(node: LabNode): Promise<CNIRuntime> {
  const file = join(node.root, CNI_CONF_DIR, "10-gingham.conflist");
  const enter = enterNodeArgv(node.holderPid);
  return new CNIRuntime(parseConflist(await readFile(file, "utf8")), {
    pluginPath: CNI_BIN_DIR,
    cache: createResultCache(join(node.root, "/var/lib/cni/results")),
    execute: (type, { env, stdin }) =>
      run([...enter, join(CNI_BIN_DIR, type)], { env: { PATH: process.env["PATH"], ...env }, input: stdin }),
  });
}

function createResultCache(dir: string): ResultCache {
  return {
    async load(key) {
      try {
        // Written by `store` below.
        return JSON.parse(await readFile(join(dir, key), "utf8")) as AddResult;
      } catch {
        return undefined;
      }
    },
    async store(key, result) {
      await mkdir(dir, { recursive: true });
      await writeFile(join(dir, key), JSON.stringify(result), { mode: 0o600 });
    },
    remove: (key) => rm(join(dir, key), { force: true }),
  };
}

function addressesOf(result: AddResult): readonly string[] {
  return (result.ips ?? []).map(({ address }) => address.slice(0, address.indexOf("/")));
}

async function deleteNetns(node: LabNode, name: string): Promise<void> {
  await run([...enterNodeArgv(node.holderPid), "ip", "netns", "del", name]);
}

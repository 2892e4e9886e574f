// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from "node:url";
import { credentials, loadPackageDefinition, makeGenericClientConstructor } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

/** What the test asks of a pod. */
export interface SandboxConfig {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly namespace: string;
    readonly attempt: number;
  };
  readonly hostname: string;
  readonly log_directory: string;
  readonly port_mappings: readonly { readonly container_port: number; readonly host_port: number }[];
  readonly annotations: Readonly<Record<string, string>>;
  readonly linux: { readonly cgroup_parent: string };
}

export interface ExecResult {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly exit_code: number;
}

/** The Container Runtime Interface, as kubelet speaks it, over containerd's socket. */
export interface CRIClient {
  call(method: string, request: object): Promise<unknown>;
  runPod(config: SandboxConfig): Promise<{ readonly id: string; readonly ip: string }>;
  runContainer(
    pod: string,
    config: SandboxConfig,
    container: { image: string; command: readonly string[] },
  ): Promise<string>;
  exec(container: string, cmd: readonly string[]): Promise<ExecResult>;
  /** Whether containerd has read a network configuration; not, either, while it does not answer yet. */
  isNetworkReady(): Promise<boolean>;
  /** IDs of all sandboxes that containerd knows. */
  listPods(): Promise<readonly string[]>;
  /** Stops and removes the pod with its containers. */
  removePod(pod: string, containers: readonly string[]): Promise<void>;
  close(): void;
}

interface StatusResponse {
  readonly status: { readonly conditions: readonly { readonly type: string; readonly status: boolean }[] };
}

type Callback = (error: Error | null, response: unknown) => void;

export function connectCRI(socket: string): CRIClient {
  const definition = loadSync(fileURLToPath(new URL("cri.proto", import.meta.url)), { keepCase: true, defaults: true });
  loadPackageDefinition(definition);
  const service = definition["runtime.v1.RuntimeService"];
  if (service === undefined || !("Version" in service)) throw new TypeError("cri.proto defines no RuntimeService");
  // Without a generated type: the definition above is the service's, which the loader types as one of several.
  const Client = makeGenericClientConstructor(service as never, "RuntimeService");
  const client = new Client(`unix://${socket}`, credentials.createInsecure());

  function call(method: string, request: object): Promise<unknown> {
    // A generic client has a method for each RPC.
    const rpc = (client as unknown as Record<string, (request: object, callback: Callback) => void>)[method];
    if (rpc === undefined) throw new TypeError(`CRI has no ${method}`);
    return new Promise((resolve, reject) => {
      rpc.call(client, request, (error, response) => (error === null ? resolve(response) : reject(error)));
    });
  }

  return {
    call,
    async runPod(config) {
      const { pod_sandbox_id: id } = (await call("RunPodSandbox", { config })) as { pod_sandbox_id: string };
      const { status } = (await call("PodSandboxStatus", { pod_sandbox_id: id })) as {
        status: { network: { ip: string } };
      };
      return { id, ip: status.network.ip };
    },
    async runContainer(pod, sandbox, { image, command }) {
      const config = { metadata: { name: "main", attempt: 0 }, image: { image }, command, log_path: "main.log" };
      const request = { pod_sandbox_id: pod, config, sandbox_config: sandbox };
      const created = (await call("CreateContainer", request)) as { container_id: string };
      await call("StartContainer", created);
      return created.container_id;
    },
    exec: async (container, cmd) =>
      (await call("ExecSync", { container_id: container, cmd, timeout: 20 })) as ExecResult,
    async isNetworkReady() {
      const answer = await call("Status", {}).catch(() => undefined);
      const conditions = (answer as StatusResponse | undefined)?.status.conditions ?? [];
      return conditions.some(({ type, status }) => type === "NetworkReady" && status);
    },
    async listPods() {
      const { items } = (await call("ListPodSandbox", {})) as { items: readonly { id: string }[] };
      return items.map(({ id }) => id);
    },
    async removePod(pod, containers) {
      for (const container_id of containers) {
        await call("StopContainer", { container_id, timeout: 0 });
        await call("RemoveContainer", { container_id });
      }
      await call("StopPodSandbox", { pod_sandbox_id: pod });
      await call("RemovePodSandbox", { pod_sandbox_id: pod });
    },
    close: () => client.close(),
  };
}

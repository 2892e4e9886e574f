// SPDX-License-Identifier: Apache-2.0
import { existsSync, mkdirSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import type { KubeClient } from "../src/kube/api.ts";
import { connectKube } from "../src/lab/connect-kube.ts";
import { ManagedProcess } from "../src/lab/managed-process.ts";

const PORT = 6443;

/** The embedded API server in a process of its own, with our kinds. */
export interface BenchServer {
  readonly client: KubeClient;
  readonly adminKubeconfig: string;
  readonly process: ManagedProcess;
  stop(): Promise<void>;
}

export interface BenchServerOptions {
  readonly root: string;
  /** A folder on a disk: database, certificates, logs. */
  readonly dir: string;
  /** `:memory:` where writes are not what is measured. */
  readonly data: string;
  /** Tokens of nodes, besides the administrator's. */
  readonly tokenFile?: string;
}

export async function startServer({ root, dir, data, tokenFile }: BenchServerOptions): Promise<BenchServer> {
  mkdirSync(dir, { recursive: true });
  const adminKubeconfig = join(dir, "admin.kubeconfig");
  const process = new ManagedProcess({
    what: "the API server",
    argv: [
      ...[globalThis.process.execPath, "--disable-warning=ExperimentalWarning", join(root, "dist/apiserver.mjs")],
      ...["--listen", `127.0.0.1:${PORT}`, "--data", data, "--kubeconfig", adminKubeconfig],
      ...(tokenFile === undefined ? [] : ["--token-file", tokenFile]),
      ...["--cert-dir", join(dir, "pki"), "--crds", join(root, "manifests/crds")],
    ],
    env: globalThis.process.env,
    logPath: join(dir, "apiserver.log"),
  });
  await process.waitUntil(async () => existsSync(adminKubeconfig) && (await answers(PORT)), 20_000);
  const client = await connectKube(adminKubeconfig);
  return { client, adminKubeconfig, process, stop: () => process.kill("SIGTERM") };
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { KubeClient } from "../kube/api.ts";
import { describeError } from "../lib/errors.ts";
import { API_PORT } from "./api-server.ts";
import { renderKubeconfig } from "./kubeconfig.ts";
import { count, Lab } from "./lab.ts";
import { createProgress, type Progress, SILENT } from "./progress.ts";
import { startRelay } from "./relay.ts";
import { type Channel, serve } from "./rpc.ts";
import { KUBECONFIG_FILE, type SandboxConfig, type SandboxMessage, SOCKET_FILE } from "./sandbox-config.ts";
import { planPods } from "./tour/plan-pods.ts";
import { FAREWELL, runTour, TOUR } from "./tour/tour.ts";

/** Steps of `Lab.build` and of making the pods, which come before the tour's own. */
const BUILDING_STEPS = 5;

/**
 * What process 1 of the sandbox waits for: builds the laboratory, shows it, and ends; with it goes all else. It ends when told to, and
 * also when the process on the host is gone, however that came.
 */
export async function runSandbox(
  config: SandboxConfig,
  connect: (kubeconfig: string) => Promise<KubeClient>,
): Promise<void> {
  // The terminal's Ctrl-C reaches this process, too; the one on the host decides what it means.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});
  process.on("disconnect", () => process.exit(1));
  // Somebody piped the tour into a program that has seen enough.
  process.stdout.on("error", () => process.exit(1));
  process.on("message", (message: SandboxMessage) => {
    if (message.kind === "stop") process.exit(0);
  });
  try {
    const exitCode = await (config.mode === "tour" ? showLab(config, connect) : serveLab(config, connect));
    if (exitCode !== undefined) process.exit(exitCode);
  } catch (error) {
    send({ kind: "failed", message: describeError(error) });
    // Whoever asked to keep it wants to look at the ruins.
    if (!config.options.keepOnFailure) setImmediate(() => process.exit(1));
  }
}

/** Resolves to the exit status, or to undefined when the laboratory shall stay. */
async function showLab(
  config: SandboxConfig,
  connect: (kubeconfig: string) => Promise<KubeClient>,
): Promise<number | undefined> {
  const { options } = config;
  const probes = options.once ? [...TOUR, FAREWELL] : TOUR;
  const write = (text: string): void => void process.stdout.write(text);
  const progress = createProgress(BUILDING_STEPS + probes.length, write, () => performance.now());
  const lab = await buildLab(config, connect, progress);
  write("\n");
  const tools = { endpointProgram: endpointProgram() };
  const findings = await runTour(lab, probes, { tools, progress });
  const problems = findings.flatMap((finding) => finding.problems);
  const what = `${count(options.nodes, "node")}, ${count(options.pods, "pod")}`;
  if (problems.length > 0)
    write(`${count(problems.length, "PROBLEM")} with ${what}:\n${problems.map((p) => `  ${p}\n`).join("")}`);
  else write(`All well: ${what}, ${findings.map(({ summary }) => summary).join(", ")}.\n`);
  if (options.once && !(problems.length > 0 && options.keepOnFailure)) return problems.length === 0 ? 0 : 1;
  write(`
The laboratory stays until Ctrl-C. From another terminal:

  npm run lab -- shell node-1            a shell on a node; its plugins, agent and routes are where a real node has them
  npm run lab -- shell pod-1             a shell in a pod's network
  npm run lab -- kubectl get ipamblocks  or with your own kubectl:

  export KUBECONFIG=${join(config.stateDir, KUBECONFIG_FILE)}
`);
  return undefined;
}

async function serveLab(
  config: SandboxConfig,
  connect: (kubeconfig: string) => Promise<KubeClient>,
): Promise<undefined> {
  const lab = await buildLab(config, connect, SILENT);
  serve(createChannel(), {
    exec: lab.exec.bind(lab),
    kubectl: lab.kubectl.bind(lab),
    addPod: lab.addPod.bind(lab),
    delPod: lab.delPod.bind(lab),
    listPods: lab.listPods.bind(lab),
    killAgent: lab.killAgent.bind(lab),
    startAgent: lab.startAgent.bind(lab),
    killAPIServer: lab.killAPIServer.bind(lab),
    startAPIServer: lab.startAPIServer.bind(lab),
    logs: lab.logs.bind(lab),
  });
  send({ kind: "ready", targets: lab.targets });
}

async function buildLab(
  config: SandboxConfig,
  connect: (kubeconfig: string) => Promise<KubeClient>,
  progress: Progress,
): Promise<Lab> {
  const { options, root, stateDir } = config;
  const dist = join(root, "dist");
  const node = [process.execPath, "--disable-warning=ExperimentalWarning"];
  const lab = await Lab.build(
    {
      nodes: options.nodes,
      blockSize: options.blockSize,
      families: options.families,
      vxlan: options.vxlan,
      agentProgram: [...node, join(dist, "agent.mjs")],
      apiServerProgram: [...node, join(dist, "apiserver.mjs")],
      controllerProgram: [...node, join(dist, "controller.mjs")],
      launcher: join(dist, "gingham"),
      crdDir: join(root, "manifests/crds"),
      connect,
    },
    progress,
  );
  await startRelay({ path: join(stateDir, SOCKET_FILE) }, { host: lab.apiServerIP, port: API_PORT });
  // The certificate is the segment's, and kubectl comes through a relay: it shall check that name all the same.
  const credentials = {
    ...lab.credentials,
    server: `https://127.0.0.1:${config.hostPort}`,
    tlsServerName: lab.apiServerIP,
  };
  writeFileSync(join(stateDir, KUBECONFIG_FILE), renderKubeconfig(credentials), { mode: 0o600 });
  const requests = planPods(
    options.pods,
    lab.nodes.map(({ name }) => name),
  );
  await progress.step(`${count(options.pods, "pod")}, each by the plugins gingham, portmap and bandwidth`, () =>
    Promise.all(requests.map((request) => lab.addPod(request))),
  );
  if (config.mode === "tour") send({ kind: "ready", targets: lab.targets });
  return lab;
}

function endpointProgram(): readonly string[] {
  return [process.execPath, process.argv[1] ?? "", "internal", "endpoint"];
}

function send(message: SandboxMessage): void {
  process.send?.(message);
}

function createChannel(): Channel {
  return {
    send,
    onMessage: (listener) =>
      void process.on("message", (message: SandboxMessage) => {
        if (message.kind === "call") listener(message);
      }),
    onClose: (listener) => void process.on("disconnect", listener),
  };
}

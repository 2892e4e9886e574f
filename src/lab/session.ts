// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LabError } from "./errors.ts";
import { checkRequirements, widenPath } from "./host-requirements.ts";
import { INIT_ARGV, sandboxArgv } from "./namespaces.ts";
import type { LabOptions } from "./options.ts";
import { portOf, startRelay } from "./relay.ts";
import { run } from "./run.ts";
import { KUBECONFIG_FILE, type SandboxConfig, type SandboxMessage, SOCKET_FILE } from "./sandbox-config.ts";
import { createStateDir, identifyProcess, openStateRoot, removeStateDir, writeState } from "./state.ts";

export interface SessionOptions {
  readonly mode: SandboxConfig["mode"];
  readonly options: LabOptions;
  /** The project's folder. */
  readonly root: string;
  /** The script that Node runs in the sandbox: `main/lab.ts`, or its bundle. */
  readonly script: string;
}

/** A laboratory as the host sees it: the process that holds it, and a kubeconfig that works here. */
export interface Session {
  readonly kubeconfig: string;
  /** Resolves when the laboratory can be used; rejects when it never will be. */
  readonly ready: Promise<void>;
  /** The exit status of the sandbox. When it is there, nothing of the laboratory is left. */
  readonly ended: Promise<number>;
  readonly child: ChildProcess;
  /** Ends it; at once when `isForced`. */
  stop(isForced?: boolean): Promise<void>;
}

/** Starts a laboratory. The caller's process must stay: it relays kubectl, and the laboratory ends with it. */
export async function openSession(session: SessionOptions): Promise<Session> {
  const { root, options, mode, script } = session;
  const rootless = process.getuid?.() !== 0;
  const env = { ...process.env, PATH: widenPath(process.env["PATH"]) };
  const built = ["agent.mjs", "apiserver.mjs", "gingham"].map((file) => join(root, "dist", file));
  checkRequirements(env.PATH, built, options.families);
  if (rootless) await checkUserNamespaces();

  const stateDir = createStateDir(openStateRoot(), rootless);
  const relay = await startRelay({ host: "127.0.0.1", port: 0 }, { path: join(stateDir, SOCKET_FILE) });
  const config: SandboxConfig = { mode, options, root, stateDir, hostPort: portOf(relay) };
  const [command = "", ...args] = [
    ...sandboxArgv({ rootless }),
    ...INIT_ARGV,
    ...[
      process.execPath,
      "--disable-warning=ExperimentalWarning",
      script,
      "internal",
      "sandbox",
      JSON.stringify(config),
    ],
  ];
  const child = spawn(command, args, { env, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  const ended = once(child, "exit").then(([code]) => {
    relay.close();
    removeStateDir(stateDir);
    return typeof code === "number" ? code : 1;
  });
  const ready = new Promise<void>((resolve, reject) => {
    child.on("message", (message: SandboxMessage) => {
      if (message.kind === "failed") reject(new LabError("LabFailed", message.message));
      if (message.kind !== "ready") return;
      const owner = identifyProcess(process.pid);
      const sandboxPid = child.pid === undefined ? undefined : findChild(child.pid);
      if (owner !== undefined && sandboxPid !== undefined)
        writeState(stateDir, { owner, sandboxPid, rootless, targets: message.targets });
      resolve();
    });
    void ended.then((code) =>
      reject(new LabError("LabEnded", `The laboratory ended with status ${code} before it was ready`)),
    );
  });
  // Nobody has to ask: `ended` says the same.
  ready.catch(() => {});
  return {
    kubeconfig: join(stateDir, KUBECONFIG_FILE),
    ready,
    ended,
    child,
    async stop(isForced = false) {
      if (isForced || !child.connected) child.kill("SIGKILL");
      else child.send({ kind: "stop" } satisfies SandboxMessage);
      await ended;
    },
  };
}

/** The one child of `unshare --fork`. Source: proc(5), /proc/PID/task/TID/children. */
function findChild(pid: number): number | undefined {
  const file = `/proc/${pid}/task/${pid}/children`;
  const [first] = existsSync(file) ? readFileSync(file, "utf8").trim().split(" ") : [];
  return first === undefined || first === "" ? undefined : Number(first);
}

async function checkUserNamespaces(): Promise<void> {
  const { exitCode, stderr } = await run(["unshare", "--user", "--map-root-user", "--net", "--mount", "true"]);
  if (exitCode === 0) return;
  throw new LabError(
    "NoUserNamespaces",
    `This machine gives ordinary users no user namespaces (${stderr.trim()}). Run the laboratory as root, or allow them: ` +
      "sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 (those of the two that exist)",
  );
}

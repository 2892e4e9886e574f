// SPDX-License-Identifier: Apache-2.0
import { join } from "node:path";
import { ADMIN_KUBECONFIG } from "./api-server.ts";
import { ManagedProcess } from "./managed-process.ts";
import { LAB_DIR } from "./topology.ts";

/** Starts the cluster's controller on the segment. Nobody waits for it: it leads a moment later, and pods need it not. */
export function startController(program: readonly string[]): ManagedProcess {
  return new ManagedProcess({
    what: "the controller",
    argv: [...program, "--metrics-host", "127.0.0.1"],
    env: { ...process.env, KUBECONFIG: ADMIN_KUBECONFIG },
    logPath: join(LAB_DIR, "logs/controller.log"),
  });
}

// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { InstallError, installError } from "./errors.ts";

/**
 * Executes the launcher where it was put, as the runtime will: a folder that forbids execution, or an image of another processor,
 * is to be known now and not with the first pod.
 *
 * @throws InstallError
 */
export function checkLauncher(binDir: string): void {
  const path = join(binDir, "gingham");
  const env = { CNI_COMMAND: "VERSION" };
  const { error, status, stdout } = spawnSync(path, { env, input: '{"cniVersion":"1.0.0"}', timeout: 10_000 });
  if (error !== undefined && "code" in error && error.code === "EACCES")
    throw new InstallError(
      `Cannot execute ${path}: its file system forbids it; mount it without noexec, or choose another folder (--bin-dir, GINGHAM_CNI_BIN_DIR)`,
      { cause: error },
    );
  if (error !== undefined) throw installError(`execute ${path}`, error);
  if (status !== 0 || !stdout.includes("supportedVersions"))
    throw new InstallError(`${path} does not run on this machine: exit code ${status}; is the image of its processor?`);
}

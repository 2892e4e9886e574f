// SPDX-License-Identifier: Apache-2.0
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import type { KubeClient } from "../kube/api.ts";
import { KubeConfigError } from "../kube/errors.ts";
import type { Clock } from "../lib/clock.ts";

type Env = Readonly<Record<string, string | undefined>>;

/**
 * The kubeconfig that kubectl would take: the flag, KUBECONFIG, ~/.kube/config; undefined in a pod without any of them.
 *
 * @throws KubeConfigError where KUBECONFIG names several files that exist: kubectl would merge them, we do not.
 */
export function findKubeConfig(
  flag: string | undefined,
  env: Env,
  exists: (path: string) => boolean = existsSync,
): string | undefined {
  if (flag !== undefined && flag !== "") return flag;
  const named = (env["KUBECONFIG"] ?? "").split(delimiter).filter((path) => path !== "");
  if (named.length > 0) {
    const found = named.filter(exists);
    if (found.length > 1) {
      throw new KubeConfigError(
        `KUBECONFIG names ${found.length} files, ${found.join(" and ")}: name one with --kubeconfig, or merge them with kubectl config view --flatten`,
      );
    }
    return found[0] ?? named[0];
  }
  const home = join(env["HOME"] || homedir(), ".kube", "config");
  if (exists(home)) return home;
  if (env["KUBERNETES_SERVICE_HOST"]) return undefined;
  throw new KubeConfigError(`No API server: there is no ${home}; name a kubeconfig with --kubeconfig or KUBECONFIG`);
}

/** @throws KubeConfigError */
export async function connectCluster(path: string | undefined, env: Env, clock: Clock): Promise<KubeClient> {
  const [{ loadKubeConfig }, { HTTPKubeClient }] = await Promise.all([
    import("../kube/kube-config.ts"),
    import("../kube/client.ts"),
  ]);
  const credentials = await loadKubeConfig({ env, clock, ...(path !== undefined && { kubeconfigPath: path }) });
  return new HTTPKubeClient({ credentials, userAgent: "gingham-cli", clock });
}

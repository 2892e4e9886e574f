// SPDX-License-Identifier: Apache-2.0
import type { KubeClient } from "../kube/api.ts";
import { HTTPKubeClient } from "../kube/client.ts";
import { loadKubeConfig } from "../kube/kube-config.ts";

/** The laboratory's own client, which plays kubelet and scheduler. */
export async function connectKube(kubeconfig: string): Promise<KubeClient> {
  const credentials = await loadKubeConfig({ kubeconfigPath: kubeconfig });
  return new HTTPKubeClient({ credentials, userAgent: "gingham-lab" });
}

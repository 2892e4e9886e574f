// SPDX-License-Identifier: Apache-2.0
import type { LocalConfig } from "../../felix/config-options.ts";
import { ConfigWatch } from "../../felix/config-watch.ts";
import { HTTPKubeClient } from "../../kube/client.ts";
import { ClusterCache } from "../../kube/cluster-cache.ts";
import { GoneError } from "../../kube/errors.ts";
import { loadKubeConfig } from "../../kube/kube-config.ts";
import { OutageLog } from "../../kube/outage-log.ts";
import { steadyClock as clock } from "../../lib/system-clock.ts";
import type { Logs } from "./logs.ts";

/** For the cluster's settings, before what cannot be changed later. An API server that is away is not waited for. */
const SETTINGS_WAIT_MS = 2000;

/** The way to the API server, what is watched there, and the agent's settings, of which it has a part. */
export interface Cluster {
  readonly server: URL;
  readonly client: HTTPKubeClient;
  readonly cache: ClusterCache;
  readonly settings: ConfigWatch;
}

/** Errors: those of the kubeconfig. */
export async function connectCluster(options: {
  readonly local: LocalConfig;
  readonly nodeName: string;
  readonly kubeconfig: string | undefined;
  readonly logs: Logs;
}): Promise<Cluster> {
  const { local, nodeName, kubeconfig, logs } = options;
  const credentials = await loadKubeConfig(kubeconfig === undefined ? {} : { kubeconfigPath: kubeconfig });
  const log = logs.of("kube");
  const outages = new OutageLog({ log, clock });
  const onAnswer = (): void => outages.answered();
  const client = new HTTPKubeClient({ credentials, userAgent: `gingham-agent/${nodeName}`, clock, onAnswer });
  const onError = (err: unknown, resource: string): void => {
    // The server forgets old versions: a new list answers that, and nobody has to know.
    if (err instanceof GoneError) log.debug({ resource }, "Watch is too old; listing again");
    else if (!outages.failed(err)) log.warn({ err, resource }, "Watch failed; it goes on");
  };
  const cache = new ClusterCache({ client, nodeName, clock, random: Math.random, onError });
  const settings = new ConfigWatch({ local, objects: cache.felixConfigurations });
  cache.felixConfigurations.start();
  await Promise.race([cache.felixConfigurations.firstTry, clock.sleep(SETTINGS_WAIT_MS)]);
  return { server: credentials.server, client, cache, settings };
}

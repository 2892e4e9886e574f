// SPDX-License-Identifier: Apache-2.0
// gingham-operator: one for the cluster leads, under a Lease. Makes the cluster what the Installation says.
import { hostname } from "node:os";
import { pino } from "pino";
import { serveMetrics } from "../felix/http.ts";
import { HTTPKubeClient } from "../kube/client.ts";
import { loadKubeConfig } from "../kube/kube-config.ts";
import { leadInTurns } from "../kube/lease.ts";
import { describeError } from "../lib/errors.ts";
import { systemClock as clock } from "../lib/system-clock.ts";
import { answerVersion } from "../lib/version.ts";
import { operatorUsage, parseOperatorConfig } from "../operator/config.ts";
import { KubeCluster } from "../operator/kube-cluster.ts";
import { KubeWatches } from "../operator/kube-watches.ts";
import { createOperatorMetrics } from "../operator/metrics.ts";
import { Operator } from "../operator/operator.ts";
import { createOperatorReporter } from "../operator/reporter.ts";

const LEASE_NAME = "gingham-operator";

answerVersion("gingham-operator");
if (process.argv.includes("--help")) {
  process.stdout.write(operatorUsage());
  process.exit(0);
}

async function main(): Promise<void> {
  const config = parseOperatorConfig(process.argv.slice(2), process.env, `${hostname()}-${process.pid}`);
  const { identity, kubeconfig, image } = config;
  const base = { component: "operator" };
  const log = pino({ level: config.logLevel, base, timestamp: pino.stdTimeFunctions.isoTime });
  const random = Math.random;
  const metrics = createOperatorMetrics();
  const credentials = await loadKubeConfig(kubeconfig === undefined ? {} : { kubeconfigPath: kubeconfig });
  const client = new HTTPKubeClient({ credentials, userAgent: `gingham-operator/${identity}`, clock });
  const { metricsHost: host, metricsPort: port } = config;
  const listener = port === 0 ? undefined : await serveMetrics(metrics, { host, port });
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort(new Error(signal)));
  log.info({ identity, image, server: credentials.server.href }, "Starting");

  const lead = async (signal: AbortSignal): Promise<void> => {
    log.info({ identity }, "Leading");
    metrics.leads(true);
    const onError = (err: unknown, resource: string): void => log.warn({ err, resource }, "Read failed; it goes on");
    const watches = new KubeWatches({ client, clock, random, onError, onChange: () => operator.nudge() });
    const reporter = createOperatorReporter({ log, metrics });
    const operator = new Operator({ cluster: new KubeCluster(client), source: watches, reporter, clock, image });
    watches.start();
    try {
      await operator.run(signal);
    } finally {
      metrics.leads(false);
      await watches.stop();
    }
  };
  const lease = { client, namespace: config.leaseNamespace, name: LEASE_NAME, identity, clock, random };
  const onError = (err: unknown): void => log.warn({ err }, "The Lease cannot be had; it is tried again");
  const onLost = (err: unknown): void => log.warn({ err }, "Another process leads now");
  await leadInTurns({ ...lease, onError, onLost }, lead, stop.signal);
  log.info("Stopping");
  await listener?.close();
  client.close();
}

main().catch((error: unknown) => {
  process.stderr.write(`gingham-operator: ${describeError(error)}\n`);
  process.exit(1);
});

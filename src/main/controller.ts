// SPDX-License-Identifier: Apache-2.0
// gingham-controller: one for the cluster leads, under a Lease. Frees what deleted nodes and lost DELs left behind,
// and tells in their conditions what is wrong with pools.
import { hostname } from "node:os";
import { pino } from "pino";
import { Collector } from "../controller/collector.ts";
import { controllerUsage, parseControllerConfig } from "../controller/config.ts";
import { EVENT_NAMESPACE } from "../controller/event.ts";
import { KubePoolSource } from "../controller/kube-pool-source.ts";
import { KubeSource } from "../controller/kube-source.ts";
import { createControllerMetrics } from "../controller/metrics.ts";
import { PoolKeeper } from "../controller/pool-keeper.ts";
import { createPoolReporter } from "../controller/pool-reporter.ts";
import { createReporter } from "../controller/reporter.ts";
import { EVENTS, type Event } from "../crds/core.ts";
import { serveMetrics } from "../felix/http.ts";
import { KubeStore } from "../ipam/kube-store.ts";
import { HTTPKubeClient } from "../kube/client.ts";
import { loadKubeConfig } from "../kube/kube-config.ts";
import { leadInTurns } from "../kube/lease.ts";
import { describeError } from "../lib/errors.ts";
import { systemClock as clock } from "../lib/system-clock.ts";
import { answerVersion } from "../lib/version.ts";

const LEASE_NAME = "gingham-controller";

answerVersion("gingham-controller");
if (process.argv.includes("--help")) {
  process.stdout.write(controllerUsage());
  process.exit(0);
}

async function main(): Promise<void> {
  const config = parseControllerConfig(process.argv.slice(2), process.env, `${hostname()}-${process.pid}`);
  const { identity, kubeconfig, isDryRun, requestsPerSecond } = config;
  const base = { component: "controller" };
  const log = pino({ level: config.logLevel, base, timestamp: pino.stdTimeFunctions.isoTime });
  const random = Math.random;
  const metrics = createControllerMetrics();
  const credentials = await loadKubeConfig(kubeconfig === undefined ? {} : { kubeconfigPath: kubeconfig });
  const client = new HTTPKubeClient({ credentials, userAgent: `gingham-controller/${identity}`, clock });
  const emit = async (event: Event): Promise<void> => {
    await client.create(EVENTS, event, { namespace: EVENT_NAMESPACE });
  };
  const listener =
    config.metricsPort === 0
      ? undefined
      : await serveMetrics(metrics, { host: config.metricsHost, port: config.metricsPort });
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort(new Error(signal)));
  log.info({ identity, isDryRun, server: credentials.server.href }, "Starting");

  const lead = async (signal: AbortSignal): Promise<void> => {
    log.info({ identity }, "Leading");
    metrics.leads(true);
    const onError = (err: unknown, resource: string): void => log.warn({ err, resource }, "Read failed; it goes on");
    // Made anew for each term: what was seen in an earlier one says nothing.
    const source = new KubeSource({ client, clock, random, onError });
    const poolSource = new KubePoolSource({ client, clock, random, onError }, source);
    const telling = { log, metrics, clock, instance: identity, emit };
    const store = new KubeStore(client);
    const reporter = createReporter(telling);
    const collector = new Collector({ source, store, reporter, clock, random, isDryRun, requestsPerSecond });
    const keeper = new PoolKeeper({ source: poolSource, reporter: createPoolReporter(telling), clock, isDryRun });
    source.onNodeChange((what) => {
      if (what === "deleted") collector.nudge();
    });
    poolSource.onChange((what) => keeper.nudge(what));
    source.start();
    poolSource.start();
    try {
      await Promise.all([collector.run(signal), keeper.run(signal)]);
    } finally {
      metrics.leads(false);
      await Promise.all([source.stop(), poolSource.stop()]);
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
  process.stderr.write(`gingham-controller: ${describeError(error)}\n`);
  process.exit(1);
});

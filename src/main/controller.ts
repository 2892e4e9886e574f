// SPDX-License-Identifier: Apache-2.0
// gingham-controller: one for the cluster leads, under a Lease. Frees what deleted nodes and lost DELs left behind,
// and tells in their conditions what is wrong with pools.
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
import { KubeStore } from "../ipam/kube-store.ts";
import { systemClock as clock } from "../lib/system-clock.ts";
import { type Leader, runLeader } from "../program/leader.ts";

runLeader({
  name: "gingham-controller",
  usage: controllerUsage,
  make: (input) => {
    const config = parseControllerConfig(input);
    const { identity, isDryRun, requestsPerSecond } = config;
    const metrics = createControllerMetrics();
    const random = Math.random;
    const lead: Leader["lead"] = async ({ client, log, onError, signal }) => {
      const emit = async (event: Event): Promise<void> => {
        await client.create(EVENTS, event, { namespace: EVENT_NAMESPACE });
      };
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
        await Promise.all([source.stop(), poolSource.stop()]);
      }
    };
    return { config, metrics, told: { isDryRun }, lead };
  },
});

// SPDX-License-Identifier: Apache-2.0
// gingham-operator: one for the cluster leads, under a Lease. Makes the cluster what the Installation says.
import { systemClock as clock } from "../lib/system-clock.ts";
import { operatorUsage, parseOperatorConfig } from "../operator/config.ts";
import { KubeCluster } from "../operator/kube-cluster.ts";
import { KubeWatches } from "../operator/kube-watches.ts";
import { createOperatorMetrics } from "../operator/metrics.ts";
import { Operator } from "../operator/operator.ts";
import { createOperatorReporter } from "../operator/reporter.ts";
import { type Leader, runLeader } from "../program/leader.ts";

runLeader({
  name: "gingham-operator",
  usage: operatorUsage,
  make: (input) => {
    const config = parseOperatorConfig(input);
    const { image, pullSecretNamespace } = config;
    const metrics = createOperatorMetrics();
    const random = Math.random;
    const lead: Leader["lead"] = async ({ client, log, onError, signal }) => {
      const watches = new KubeWatches({ client, clock, random, onError, onChange: () => operator.nudge() });
      const reporter = createOperatorReporter({ log, metrics });
      const cluster = new KubeCluster(client, { pullSecretNamespace });
      const operator = new Operator({ cluster, source: watches, reporter, clock, image });
      watches.start();
      try {
        await operator.run(signal);
      } finally {
        await watches.stop();
      }
    };
    return { config, metrics, told: { image }, lead };
  },
});

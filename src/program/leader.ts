// SPDX-License-Identifier: Apache-2.0
import { hostname } from "node:os";
import { type Logger, pino } from "pino";
import { serveMetrics } from "../felix/http.ts";
import { HTTPKubeClient } from "../kube/client.ts";
import { loadKubeConfig } from "../kube/kube-config.ts";
import { leadInTurns } from "../kube/lease.ts";
import { OutageLog } from "../kube/outage-log.ts";
import { describeError } from "../lib/errors.ts";
import { systemClock as clock } from "../lib/system-clock.ts";
import { answerVersion } from "../lib/version.ts";
import type { LeaderConfig } from "./leader-config.ts";
import type { ProgramInput } from "./options.ts";

/** What a program has while it leads. */
export interface Term {
  readonly client: HTTPKubeClient;
  readonly log: Logger;
  /** Hears of reads that failed, none of which stops anything. */
  readonly onError: (error: unknown, resource: string) => void;
  /** Aborts when the Lease is lost or the program is stopped. */
  readonly signal: AbortSignal;
}

/** The parts of a program for the whole cluster that are its own. */
export interface Leader {
  readonly config: LeaderConfig;
  readonly metrics: Parameters<typeof serveMetrics>[0] & { leads(isLeader: boolean): void };
  /** What the log tells at the start besides. */
  readonly told: object;
  /** What it does while it leads, made anew for each term: what was seen in an earlier one says nothing. */
  lead(term: Term): Promise<void>;
}

export interface LeaderProgram {
  /** Of the program and its Lease: `gingham-` and the component. */
  readonly name: string;
  readonly usage: () => string;
  /** @throws ConfigError */
  readonly make: (input: ProgramInput & { readonly fallbackIdentity: string }) => Leader;
}

/** Runs a program of which one for the cluster leads, under a Lease, until a signal stops it. */
export function runLeader(program: LeaderProgram): void {
  answerVersion(program.name);
  if (process.argv.includes("--help")) {
    process.stdout.write(program.usage());
    process.exit(0);
  }
  run(program).catch((error: unknown) => {
    process.stderr.write(`${program.name}: ${describeError(error)}\n`);
    process.exit(1);
  });
}

async function run({ name, make }: LeaderProgram): Promise<void> {
  const fallbackIdentity = `${hostname()}-${process.pid}`;
  const leader = make({ args: process.argv.slice(2), env: process.env, fallbackIdentity });
  const { identity, kubeconfig, logLevel, leaseNamespace, metricsHost: host, metricsPort: port } = leader.config;
  const base = { component: name.replace("gingham-", "") };
  const log = pino({ level: logLevel, base, timestamp: pino.stdTimeFunctions.isoTime });
  const credentials = await loadKubeConfig(kubeconfig === undefined ? {} : { kubeconfigPath: kubeconfig });
  const outages = new OutageLog({ log, clock });
  const onAnswer = (): void => outages.answered();
  const client = new HTTPKubeClient({ credentials, userAgent: `${name}/${identity}`, clock, onAnswer });
  const listener = port === 0 ? undefined : await serveMetrics(leader.metrics, { host, port });
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => stop.abort(new Error(signal)));
  log.info({ identity, ...leader.told, server: credentials.server.href }, "Starting");

  const lead = async (signal: AbortSignal): Promise<void> => {
    log.info({ identity }, "Leading");
    leader.metrics.leads(true);
    const onError = (err: unknown, resource: string): void => {
      if (!outages.failed(err)) log.warn({ err, resource }, "Read failed; it goes on");
    };
    try {
      await leader.lead({ client, log, onError, signal });
    } finally {
      leader.metrics.leads(false);
    }
  };
  const lease = { client, namespace: leaseNamespace, name, identity, clock, random: Math.random };
  const onError = (err: unknown): void => {
    if (!outages.failed(err)) log.warn({ err }, "The Lease cannot be had; it is tried again");
  };
  const onLost = (err: unknown): void => log.warn({ err }, "Another process leads now");
  await leadInTurns({ ...lease, onError, onLost }, lead, stop.signal);
  log.info("Stopping");
  await listener?.close();
  client.close();
}

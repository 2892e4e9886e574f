// SPDX-License-Identifier: Apache-2.0
import { formatIP } from "../../net/ip.ts";
import type { CNI } from "../commands/cni.ts";
import { keyOf } from "../records/attachment.ts";
import type { AttachmentID, PodRef, WholeRecord } from "../types.ts";
import type { KnownPod, KnownPods } from "./ports.ts";
import type { PodStatusQueue } from "./queue.ts";
import { annotationsOf, CONTAINER_ID, isOfPod, POD_IP, POD_IPS, type Wish } from "./wish.ts";

/** After a start, when pods come and go and the sweep has done its work. Units: milliseconds, and as much at random. */
const FIRST_MS = 20_000;
const EVERY_MS = 600_000;
/** From one pod to the next: all nodes of a cluster may start at once. Units: milliseconds, from half to one and a half. */
const SPREAD_MS = 1000;
/** The write of an ADD that has just been through may not have come back yet. Less than FIRST_MS: an agent that died is no excuse. */
const FRESH_MS = 10_000;

export interface PodStatusRepairOptions {
  readonly cni: Pick<CNI, "records" | "endpoints" | "host" | "clock" | "log">;
  readonly pods: KnownPods;
  readonly queue: PodStatusQueue;
  /** Texts of addresses to which the kernel has a route over one of the node's links. */
  readonly routed: () => Promise<ReadonlySet<string>>;
  readonly random: () => number;
}

/** Attachments of pods, as their records tell. */
interface Recorded {
  /** By container ID. */
  readonly live: ReadonlyMap<string, { readonly id: AttachmentID; readonly record: WholeRecord }>;
  /** Of every record, in whatever state. */
  readonly containerIDs: ReadonlySet<string>;
}

/** Looks after a start, and now and then, for pods whose annotations are not what the attachment records say. Never rejects. */
export async function repairPeriodically(options: PodStatusRepairOptions, signal: AbortSignal): Promise<void> {
  const { clock, log } = options.cni;
  let waitMs = FIRST_MS * (1 + options.random());
  for (;;) {
    try {
      await clock.sleep(waitMs, signal);
      const pods = await repair(options);
      if (pods > 0)
        log.info({ op: "podStatus", pods }, "Annotations of pods that contradict their records are repaired");
    } catch (error) {
      if (signal.aborted) return;
      log.warn({ op: "podStatus", err: error }, "Pods' annotations cannot be compared with the records; tried again");
    }
    waitMs = EVERY_MS;
  }
}

/**
 * Compares every pod of the node with its records, which are the truth, and queues what must be written. While all is
 * right it asks the API server for nothing.
 *
 * @returns how many pods are to be repaired. Errors: of the disk, of the kernel
 */
export async function repair({ cni, pods, queue, routed, random }: PodStatusRepairOptions): Promise<number> {
  await pods.synced;
  // Before the records: whoever is annotated has had a record since before.
  const known = [...pods.list()];
  const recorded = await readRecords(cni);
  const suspects = known.filter((pod) => isStale(pod, recorded));
  const routes = suspects.length === 0 ? new Set<string>() : await routed();
  const held = new Set([...recorded.live.values()].flatMap(({ record }) => record.result.ips.map(formatIP)));
  const gone = suspects
    // What has a route may be the pod of another plugin, which keeps no records. An address of ours is no such one's.
    .filter(({ annotations }) => addressesIn(annotations).every((ip) => held.has(ip) || !routes.has(ip)))
    .map(({ pod, annotations }): Wish => ({ pod, gone: [annotations[CONTAINER_ID] ?? ""] }));

  let [count, delayMs] = [0, 0];
  // Nothing is awaited from here on, so that no DEL comes between the look at the endpoint and the queue.
  for (const wish of [...contradicted(cni, known, recorded), ...gone]) {
    delayMs += SPREAD_MS * (0.5 + random());
    if (queue.repair(wish, delayMs)) count++;
  }
  return count;
}

/** Pods that have a sandbox here and do not say so. */
function contradicted(
  { endpoints, clock }: PodStatusRepairOptions["cni"],
  known: readonly KnownPod[],
  { live }: Recorded,
): readonly Wish[] {
  const byName = new Map(known.map((one) => [nameOf(one.pod), one]));
  const freshMs = clock.nowMs() - FRESH_MS;
  return [...live.values()].flatMap(({ id, record }): readonly Wish[] => {
    const one = record.pod && byName.get(nameOf(record.pod));
    if (one === undefined || record.atMs > freshMs || !isSame(record.pod, one.pod)) return [];
    // Of two sandboxes of a pod the newer is up; a DEL takes it down before it says a word to the queue.
    if (!endpoints.has(keyOf(id))) return [];
    const sandbox = { containerID: id.containerID, ips: record.result.ips };
    const isRight = Object.entries(annotationsOf(sandbox)).every(([name, text]) => one.annotations[name] === text);
    return isRight ? [] : [{ pod: one.pod, sandbox }];
  });
}

/** Whether the annotations name a sandbox that has no record, as after a DEL whose word did not reach the API server. */
function isStale({ annotations }: KnownPod, { containerIDs }: Recorded): boolean {
  const containerID = annotations[CONTAINER_ID] ?? "";
  return containerID !== "" && addressesIn(annotations).length > 0 && !containerIDs.has(containerID);
}

async function readRecords({ records, host }: PodStatusRepairOptions["cni"]): Promise<Recorded> {
  const live = new Map<string, { readonly id: AttachmentID; readonly record: WholeRecord }>();
  const containerIDs = new Set<string>();
  for (const id of await records.list()) {
    if (!isOfPod(id)) continue;
    containerIDs.add(id.containerID);
    const stored = await records.read(id);
    if (stored.kind !== "record" || stored.record.state !== "whole" || stored.record.bootID !== host.bootID) continue;
    live.set(id.containerID, { id, record: stored.record });
  }
  return { live, containerIDs };
}

function addressesIn(annotations: KnownPod["annotations"]): readonly string[] {
  const texts = [annotations[POD_IP] ?? "", ...(annotations[POD_IPS] ?? "").split(",")];
  return texts.map((text) => text.split("/")[0] ?? "").filter((text) => text !== "");
}

function nameOf({ namespace, name }: PodRef): string {
  return `${namespace}/${name}`;
}

function isSame(recorded: PodRef | undefined, known: PodRef): boolean {
  return recorded?.uid === undefined || recorded.uid === known.uid;
}

// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../crds/core.ts";
import { BORROWS_ANNOTATION, renderBorrows } from "../felix/calc/borrowed.ts";
import type { Clock } from "../lib/clock.ts";
import type { KubeClient } from "./api.ts";
import type { BorrowedSource } from "./borrowed-source.ts";
import type { Informer } from "./informer.ts";
import { annotateNode } from "./own-node.ts";

export interface BorrowHintsOptions {
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly nodeName: string;
  readonly nodes: Pick<Informer<Node, Node>, "get">;
  readonly borrowed: Pick<BorrowedSource, "list" | "synced" | "isExpected" | "onChange">;
  readonly onError: (error: unknown) => void;
}

/** All nodes hear of each write of a Node, so there is one in this time at most. Units: milliseconds. */
const MIN_GAP_MS = 5000;
/** Whether blocks have to be told of changes without a change of any block. */
const LOOK_MS = 60_000;

/**
 * Keeps the annotation of this node's Node that names the blocks from which it borrows, so that the other nodes read them
 * at once. While all agents watch blocks anyway nothing is written, so a pool that is full of borrowers costs none of it.
 * Never rejects; runs until the signal aborts.
 */
export async function publishBorrows(options: BorrowHintsOptions, signal: AbortSignal): Promise<void> {
  const { client, clock, nodeName, nodes, borrowed, onError } = options;
  const sleep = (ms: number, until: AbortSignal): Promise<void> => clock.sleep(ms, until).catch(() => {});
  let nap = new AbortController();
  const wake = (): void => nap.abort("changed");
  signal.addEventListener("abort", wake, { once: true });
  const stop = borrowed.onChange(wake);
  /** As last written, of which the informer may not have heard yet. */
  let written: string | undefined;
  await borrowed.synced;
  while (!signal.aborted) {
    nap = new AbortController();
    const text = textOf(borrowed.list(), nodeName);
    const known = nodes.get(nodeName);
    const isDue = known !== undefined && text !== (written ?? known.metadata.annotations?.[BORROWS_ANNOTATION] ?? "");
    if (!isDue || borrowed.isExpected) await sleep(LOOK_MS, nap.signal);
    else {
      try {
        await annotateNode(client, nodeName, { name: BORROWS_ANNOTATION, text }, signal);
        written = text;
      } catch (error) {
        if (!signal.aborted) onError(error);
      }
      await sleep(MIN_GAP_MS, signal);
    }
  }
  stop();
}

function textOf(blocks: ReturnType<BorrowedSource["list"]>, nodeName: string): string {
  const own = [...blocks].filter(({ addresses }) => addresses.some(({ node }) => node === nodeName));
  return renderBorrows(own.map(({ name }) => name));
}

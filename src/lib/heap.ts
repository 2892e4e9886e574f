// SPDX-License-Identifier: Apache-2.0
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

interface CollectOptions {
  readonly type: "major";
  readonly execution: "sync";
  readonly flavor: "last-resort";
}

/**
 * Gives back the memory that this thread's JavaScript has used and needs no longer. V8 keeps pages with few objects left
 * in them until memory is short; only this way of collecting moves the objects together. It blocks the thread: about
 * 100 ms for a heap of 20 MB, so it is for the end of a start and the like.
 */
export function shrinkHeap(): void {
  setFlagsFromString("--expose-gc");
  // A new context has the function, whatever this one was started with.
  const collect = runInNewContext("gc") as (options: CollectOptions) => void;
  setFlagsFromString("--no-expose-gc");
  collect({ type: "major", execution: "sync", flavor: "last-resort" });
}

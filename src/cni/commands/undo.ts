// SPDX-License-Identifier: Apache-2.0
import { keyOf } from "../records/attachment.ts";
import type { AttachmentID, IntentRecord } from "../types.ts";
import type { CNI } from "./cni.ts";

/** What an ADD must take back if it fails. Disposed without `commit`, it runs the steps, newest first. */
export interface Undo extends AsyncDisposable {
  step(what: string, run: () => Promise<unknown>): void;
  /** The record may say `whole` from now on. */
  recordTried(): void;
  /** The ADD succeeded: nothing is undone. */
  commit(): void;
}

/**
 * The first step that fails ends the undo, since an address must not be given back while a link still has it. The
 * record then stays, and the sweep (or the next ADD or DEL) undoes all of it once more.
 */
export function undoOf(cni: CNI, id: AttachmentID, intent: IntentRecord): Undo {
  const stack = new AsyncDisposableStack();
  let clean = true;
  let mayBeWhole = false;
  const attempt = async (what: string, run: () => Promise<unknown>) => {
    if (!clean) return;
    try {
      await run();
    } catch (error) {
      clean = false;
      cni.log.warn({ op: "ADD", ...id, key: keyOf(id), err: error }, `Undo of a failed ADD could not ${what}`);
    }
  };
  stack.defer(async () => {
    await attempt("remove the record", () => cni.records.remove(id));
    if (clean || !mayBeWhole) return;
    // A record that says `whole` would make the next ADD answer success: say once more that it is an intent.
    clean = true;
    await attempt("mark the record as an intent", () => cni.records.append(id, intent));
  });
  return {
    step: (what, run) => stack.defer(() => attempt(what, run)),
    recordTried: () => {
      mayBeWhole = true;
    },
    commit: () => void stack.move(),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

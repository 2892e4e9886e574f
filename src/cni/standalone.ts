// SPDX-License-Identifier: Apache-2.0
import type { CNI } from "./commands/cni.ts";
import { fail, perform, prepare, type Reply, type Task } from "./executor.ts";
import type { Env } from "./input/protocol.ts";
import { announce, finishReleases } from "./reconcile.ts";

/** What the standalone program makes for one call, once the call is checked. */
export interface Standalone extends AsyncDisposable {
  readonly cni: CNI;
}

/** An agent knows who is up, and gives nobody's address or interface away; here the records tell. */
async function learnEndpoints(cni: CNI): Promise<void> {
  try {
    await announce(cni);
  } catch (err) {
    cni.log.warn({ err }, "Attachments cannot be listed; what running pods have is not known to this call");
  }
}

/**
 * Runs one call in a process of its own, for machines without an agent. Nobody sweeps there, so what a DEL had to leave
 * while the datastore was away, later calls finish. Never rejects.
 *
 * @param make connects to what the task's configuration names; not called for VERSION or for what is refused
 */
export async function runOnce(
  make: (task: Task) => Promise<Standalone>,
  env: Env,
  stdin: string,
  signal?: AbortSignal,
): Promise<Reply> {
  const prepared = prepare(env, stdin);
  if ("reply" in prepared) return prepared.reply;
  try {
    await using standalone = await make(prepared.task);
    const { verb } = prepared.task.work;
    if (verb === "ADD" || verb === "DEL") await learnEndpoints(standalone.cni);
    const reply = await perform(standalone.cni, prepared.task, signal);
    if (reply.exitCode === 0) await finishReleases(standalone.cni);
    return reply;
  } catch (error) {
    return fail(error, prepared.task.cniVersion);
  }
}

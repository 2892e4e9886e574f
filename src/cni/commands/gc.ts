// SPDX-License-Identifier: Apache-2.0
import type { HeldAddress } from "../../ipam/gc/types.ts";
import { formatIP } from "../../net/ip.ts";
import { knownHandles, ownAddresses, possibleHandles } from "../collect/own.ts";
import { CNIError, codeNameOf, isTransient } from "../errors.ts";
import { keyOf } from "../records/attachment.ts";
import { giveBack, isUnderWayElsewhere } from "../release.ts";
import type { AttachmentID } from "../types.ts";
import type { CNI } from "./cni.ts";
import { delLocked } from "./del.ts";
import { refuseOtherNode } from "./own-node.ts";

/** A checked GC. */
export interface GCRequest {
  readonly network: string;
  /** What the configuration says of the node. */
  readonly nodeName?: string;
  /** Attachments of the network that the runtime knows; all others are nobody's. */
  readonly valid: readonly AttachmentID[];
}

/** What a GC did. */
export interface GCSummary {
  /** Attachments that were removed. */
  readonly released: number;
  /** Of these, how many wait for the datastore; the sweep goes on with them. */
  readonly deferred: number;
  /** Addresses that were freed although no record told of them. */
  readonly addresses: number;
  /** Attachments that somebody works on. */
  readonly busy: number;
}

interface Failure {
  readonly what: string;
  readonly error: unknown;
}

/** Deletions side by side; group commit makes few block writes of them, and one link-group deletion. */
const CONCURRENCY = 32;

/**
 * Removes every attachment of one network that the runtime does not list: as DEL does, by its record; then frees the
 * addresses of this node and network that no record tells of, unless the kernel has a route to them.
 *
 * What another call works on is left, and so is what was attached after the list was made. A failure stops nothing else.
 *
 * @throws CNIError which sums up the failures, or `InvalidNetworkConfig`
 */
export async function gc(cni: CNI, request: GCRequest, signal?: AbortSignal): Promise<GCSummary> {
  const { network, nodeName } = request;
  refuseOtherNode(cni, { name: network, ...(nodeName !== undefined && { nodeName }) });
  const startMs = cni.clock.nowMs();
  const valid = new Set(request.valid.map(keyOf));
  const ids = (await cni.records.list()).filter((id) => id.network === network && !valid.has(keyOf(id)));
  const total = ids.length;
  const counts = { released: 0, deferred: 0, addresses: 0, busy: 0 };
  const failures: Failure[] = [];
  const worker = async (): Promise<void> => {
    for (let id = ids.pop(); id !== undefined && !signal?.aborted; id = ids.pop()) {
      try {
        const outcome = await remove(cni, id, startMs);
        if (outcome === "busy") counts.busy++;
        else counts.released++;
        if (outcome === "deferred") counts.deferred++;
      } catch (error) {
        failures.push({ what: `attachment ${keyOf(id)}`, error });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, total) }, worker));
  signal?.throwIfAborted();
  try {
    counts.addresses = await freeUnrecorded(cni, request, signal);
  } catch (error) {
    failures.push({ what: "addresses without a record", error });
  }
  if (failures.length > 0) throw summaryOf(request, total, failures);
  return counts;
}

async function remove(cni: CNI, id: AttachmentID, startMs: number): Promise<"busy" | "released" | "deferred"> {
  const key = keyOf(id);
  using turn = await cni.locks.tryAcquire(key);
  if (turn === undefined) return "busy";
  const stored = await cni.records.read(id);
  if (stored.kind === "broken") {
    const step = "a DEL that names its namespace removes it";
    throw new CNIError("IOFailure", `Record of attachment ${key} cannot be read: ${stored.reason}; ${step}`);
  }
  if (stored.kind === "record") {
    const { record } = stored;
    if (isUnderWayElsewhere(cni, record) || (record.state !== "releasing" && record.atMs > startMs)) return "busy";
  }
  const outcome = await delLocked(cni, { id, netns: "", why: "GC" });
  return outcome.kind;
}

/**
 * The proof is the collector's: an ADD writes its record before it takes an address, and the blocks are read before the
 * records. It takes two looks and spares what has a pod, since it must guess what is alive; here the runtime has said so.
 */
async function freeUnrecorded(cni: CNI, { network, valid }: GCRequest, signal?: AbortSignal): Promise<number> {
  const { nodeBlocks, holders } = cni;
  if (nodeBlocks === undefined || holders === undefined || !(await nodeBlocks.isReady())) return 0;
  const held: HeldAddress[] = [];
  for await (const block of nodeBlocks.read("own", signal ?? new AbortController().signal))
    held.push(...ownAddresses(cni, block).filter(({ handleID }) => isOfNetwork(handleID, network)));
  const known = await knownHandles(cni);
  const listed = new Set(valid.flatMap((id) => possibleHandles(cni, id)));
  const suspects = held.filter(({ handleID }) => !known.has(handleID) && !listed.has(handleID));
  if (suspects.length === 0) return 0;
  const routes = await holders.routed();
  if (routes === undefined) return 0;
  const leaks = suspects.filter(({ ip }) => !routes.has(formatIP(ip)));
  for (const [handleID, allocations] of Map.groupBy(leaks, (leak) => leak.handleID)) {
    const ips = allocations.map(({ ip }) => formatIP(ip));
    cni.log.info({ op: "GC", ips, handleID, ...allocations[0]?.attributes }, "Addresses without a record are freed");
    await giveBack(cni, { handleID, allocations }, { why: "GC" }, signal);
  }
  return leaks.length;
}

/** With another dot in it, it could be of a network whose name begins with this one's: that is for the collector. */
function isOfNetwork(handleID: string, network: string): boolean {
  return handleID.startsWith(`${network}.`) && !handleID.slice(network.length + 1).includes(".");
}

function summaryOf({ network }: GCRequest, total: number, failures: readonly Failure[]): CNIError {
  const texts = failures.map(({ what, error }) => `${what}: ${error instanceof Error ? error.message : String(error)}`);
  // Trying again is the answer only where it cures all.
  const worst = failures.find(({ error }) => !isTransient(error)) ?? failures[0];
  const what = `GC of network ${network} has looked at ${total} attachments, and failed for ${failures.length}`;
  return new CNIError(codeNameOf(worst?.error), `${what}: ${texts.join("; ")}; run it again when these are cured`);
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock } from "../../lib/clock.ts";
import type { NodeBlocks } from "../collect/node-blocks.ts";
import type { ConntrackFlusher } from "../conntrack/flusher.ts";
import type { PluginRunner } from "../delegation/types.ts";
import type { EndpointBook } from "../endpoint-book.ts";
import { CancelledError } from "../errors.ts";
import type { Holders, ReservationSource } from "../fixed/ports.ts";
import type { Journal } from "../journal/types.ts";
import type { KeyedLocks } from "../locks.ts";
import type { PodStatusListener } from "../pod-status/ports.ts";
import type {
  AddressManager,
  AttachmentStore,
  GateProbe,
  Host,
  Logger,
  NamespaceSource,
  PendingStore,
  PodSource,
  PodWiring,
} from "../ports.ts";

/** Everything the commands work with; made once by the agent, and for each call by the standalone program. */
export interface CNI {
  readonly addresses: AddressManager;
  readonly wiring: PodWiring;
  readonly conntrack: ConntrackFlusher;
  readonly records: AttachmentStore;
  readonly pending: PendingStore;
  readonly host: Host;
  /** Absent where nobody watches pods: then pods have no annotations. */
  readonly pods?: PodSource;
  /** Absent where nobody watches namespaces. */
  readonly namespaces?: NamespaceSource;
  /** Parts of blocks that are kept from pods for other plugins' segments, as far as known. Absent: looked up each time. */
  readonly segments?: Set<string>;
  /** Absent where no other IPAM plugin can be executed. */
  readonly delegates?: PluginRunner;
  /** `spec.podCIDRs` of this node. Absent where nobody can ask. Errors: of the API */
  readonly podCIDRs?: (signal?: AbortSignal) => Promise<readonly string[]>;
  /** Absent where nobody reads reservations: then no pod has an address of its own. */
  readonly reservations?: ReservationSource;
  /** Absent where nobody can be asked: then no address is taken away from its holder. */
  readonly holders?: Holders;
  /** Absent where nobody asks: then all gates are open. */
  readonly gate?: GateProbe;
  readonly endpoints: EndpointBook;
  readonly locks: KeyedLocks;
  readonly clock: Clock;
  readonly log: Logger;
  /**
   * Since when the API server has not answered; undefined while it does. Never rejects. Units: Unix milliseconds. Absent
   * where nobody keeps count.
   */
  readonly datastoreAwaySinceMs?: () => Promise<number | undefined>;
  /** Where GC looks for addresses that no record tells of. Absent, or without `holders`: it does not look. */
  readonly nodeBlocks?: NodeBlocks;
  /** Puts off what is only told of a call until its caller has the answer. Absent: it is told first. */
  readonly afterAnswer?: (tell: () => void) => void;
  /** Absent where nobody annotates pods. */
  readonly podStatus?: PodStatusListener;
  /** Absent where nobody keeps one. */
  readonly journal?: Journal;
  /** How long a DEL, or the undo of an ADD, waits for the datastore. Units: milliseconds. */
  readonly releaseWaitMs: number;
}

/** Without a reason, abort makes an error with its stack. */
const OVER = "over";

/**
 * Runs work for at most the given time, then aborts its signal and rejects, whether the work listens or not.
 *
 * @throws CancelledError after that time, and the signal's reason when it aborts
 */
export async function bounded<T>(
  clock: Clock,
  { what, ms, signal }: { readonly what: string; readonly ms: number; readonly signal?: AbortSignal },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const cancelled = Promise.withResolvers<never>();
  const cancel = (reason: unknown) => {
    controller.abort(reason);
    cancelled.reject(reason);
  };
  const onAbort = () => cancel(signal?.reason);
  if (signal?.aborted) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = new AbortController();
  clock.sleep(ms, timer.signal).then(
    () => cancel(new CancelledError(what, `no answer within ${ms} ms`)),
    () => {},
  );
  try {
    return await Promise.race([cancelled.promise, work(controller.signal)]);
  } finally {
    timer.abort(OVER);
    signal?.removeEventListener("abort", onAbort);
  }
}

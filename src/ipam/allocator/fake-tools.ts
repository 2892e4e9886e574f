// SPDX-License-Identifier: Apache-2.0
import { setImmediate as turn } from "node:timers/promises";
import { FakeClock } from "../../lib/fake-clock.ts";
import type { MemoryStore } from "../memory-store.ts";
import { NO_RESERVATIONS } from "../reservations.ts";
import type { CommitTools } from "./group-commit.ts";

class QuickClock extends FakeClock {
  override async sleep(): Promise<void> {}
}

/** What blocks are worked with on node-a, for tests of the allocator's parts. */
export function commitTools(store: MemoryStore): CommitTools {
  return {
    store,
    clock: new QuickClock(),
    random: () => 0.5,
    nodeName: "node-a",
    loadOwn: async () => undefined,
    turn: () => turn(),
    reservations: () => NO_RESERVATIONS,
    cooldown: () => ({ ipCooldownMs: 0, recordsReleases: false }),
    cooldownMs: 0,
    onBroken: () => {},
  };
}

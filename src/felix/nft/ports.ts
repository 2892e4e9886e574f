// SPDX-License-Identifier: Apache-2.0

/** What Felix asks of nftables. Implemented by `nft/run-nft.ts`. Each method rejects with NftError. */
export interface PacketFilterPort {
  /** The table `inet gingham` as nft's JSON; undefined when there is none. */
  list(): Promise<string | undefined>;
  /** Carries out a script, all of it or nothing. */
  apply(script: string): Promise<void>;
  /** Whether the kernel would take it; changes nothing. */
  check(script: string): Promise<void>;
  /**
   * Calls back soon after anybody else changed the table, or may have. Lost, doubled and late calls do no harm. Returns how
   * to stop.
   */
  watch(onChange: (damage: readonly string[]) => void): () => void;
}

/** Who changed the table `inet gingham` since the last call. */
export interface TableChange {
  /**
   * What each did that leaves no table of ours right: something was deleted, or a rule added, as `chain input missing`.
   * Nothing: whatever else it was, only a listing can tell. The key is a netlink port: the process ID of a program that has
   * one conversation with the kernel.
   */
  readonly damage: ReadonlyMap<number, readonly string[]>;
  /** There were more notifications than could be kept, perhaps of this table. */
  readonly isLost: boolean;
}

/** The kernel's notifications. Implemented by `netlink/ops/table-monitor`, in a worker thread. */
export interface TableChanges {
  watch(onChange: (change: TableChange) => void): () => void;
}

/** Where the packet filter counts. */
export interface PacketFilterMetrics {
  /** One turn that had to read or write. */
  filterTurn(ok: boolean): void;
  /** Things that others had changed. */
  filterRepaired(count: number): void;
  /** Packets dropped since the last call, by counter. */
  filterDropped(counter: string, packets: number): void;
}

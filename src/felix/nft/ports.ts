// SPDX-License-Identifier: Apache-2.0

/** What Felix asks of nftables. Implemented by `nft/run-nft.ts`. Each method rejects with NftError. */
export interface PacketFilterPort {
  /** The table `inet gingham` as nft's JSON; undefined when there is none. */
  list(): Promise<string | undefined>;
  /** Carries out a script, all of it or nothing. */
  apply(script: string): Promise<void>;
  /** Whether the kernel would take it; changes nothing. */
  check(script: string): Promise<void>;
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

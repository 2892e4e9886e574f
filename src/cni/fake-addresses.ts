// SPDX-License-Identifier: Apache-2.0
import { IPAMError } from "../ipam/errors.ts";
import type { Allocation, AssignRequest } from "../ipam/types.ts";
import { type CIDR, cidrFamily, cidrSize, ipAt, ordinalOf, parseCIDR } from "../net/cidr.ts";
import { familyOf, formatIP, type IP } from "../net/ip.ts";
import type { AddressManager } from "./ports.ts";

/** AddressManager in memory: one block for each family, and a datastore that can be away. */
export class FakeAddresses implements AddressManager {
  readonly #blocks: readonly CIDR[];
  readonly #held = new Map<string, Allocation>();
  #sequenceNumber: bigint;
  /** While set, every call rejects with it. */
  away: Error | undefined;
  /** Requests, in order. */
  readonly requests: AssignRequest[] = [];

  constructor(
    blocks: readonly string[] = ["10.244.0.64/26", "fd00:10:244::/122"],
    sequenceNumber = 1787395200123456789n,
  ) {
    this.#blocks = blocks.map(parseCIDR);
    this.#sequenceNumber = sequenceNumber;
  }

  get held(): readonly Allocation[] {
    return [...this.#held.values()];
  }

  async assign(request: AssignRequest, signal?: AbortSignal): Promise<readonly Allocation[]> {
    this.requests.push(request);
    signal?.throwIfAborted();
    if (this.away) throw this.away;
    const chosen = request.families.map((family) => this.#choose(request, family));
    for (const allocation of chosen) this.#held.set(formatIP(allocation.ip), allocation);
    this.#sequenceNumber++;
    return chosen;
  }

  async release(allocations: readonly Allocation[], signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.away) throw this.away;
    for (const { ip, handleID, sequenceNumber } of allocations) {
      const held = this.#held.get(formatIP(ip));
      if (held?.handleID === handleID && held.sequenceNumber === sequenceNumber) this.#held.delete(formatIP(ip));
    }
  }

  async releaseByHandle(handleID: string, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.away) throw this.away;
    for (const [key, held] of this.#held) if (held.handleID === handleID) this.#held.delete(key);
  }

  async contradiction({ ip, handleID, sequenceNumber }: Allocation): Promise<string | undefined> {
    if (this.away) throw this.away;
    const held = this.#held.get(formatIP(ip));
    if (held?.handleID === handleID && held.sequenceNumber === sequenceNumber) return undefined;
    return `${formatIP(ip)} is ${held === undefined ? "free" : `held by ${held.handleID}`}`;
  }

  async rehearse({ families }: Pick<AssignRequest, "families">): Promise<void> {
    if (this.away) throw this.away;
    for (const family of families) this.#choose({ handleID: "a pod", attributes: {}, families }, family);
  }

  #choose(request: AssignRequest, family: number): Allocation {
    const block = this.#blocks.find((candidate) => cidrFamily(candidate) === family);
    const named = request.addresses?.find((ip) => familyOf(ip) === family);
    if (named !== undefined && block !== undefined) return this.#chooseNamed(request, named, block);
    for (let ordinal = 0; block !== undefined && ordinal < cidrSize(block); ordinal++) {
      const ip = ipAt(block, ordinal);
      if (this.#held.has(formatIP(ip))) continue;
      return { ip, handleID: request.handleID, block, sequenceNumber: this.#sequenceNumber };
    }
    throw new IPAMError("NoAddress", `No IPv${family} address is free for ${request.handleID}; enlarge the pool`);
  }

  #chooseNamed({ handleID }: AssignRequest, ip: IP, block: CIDR): Allocation {
    const held = this.#held.get(formatIP(ip));
    if (held === undefined) return { ip, handleID, block, sequenceNumber: this.#sequenceNumber };
    const holder = { ...held, ordinal: ordinalOf(block, ip), attributes: {} };
    throw new IPAMError("AddressTaken", `${formatIP(ip)} is held by ${held.handleID}`, { holder });
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { IP } from "../net/ip.ts";
import type { Endpoint, EndpointListener } from "./ports.ts";

/**
 * Knows which endpoints are up and tells a listener of differences only.
 *
 * Invariant: one endpoint for each key and for each host interface. A new sandbox of a pod takes over the interface name
 * of the old one, whose DEL may come later: the old endpoint then goes down first, and its own DEL says nothing more.
 */
export class EndpointBook {
  readonly #listener: EndpointListener;
  readonly #byKey = new Map<string, Endpoint>();
  readonly #keyByIface = new Map<string, string>();
  /** Two have one address for as long as it takes to find out. */
  readonly #byIP = new Map<IP, Set<Endpoint>>();

  constructor(listener: EndpointListener) {
    this.#listener = listener;
  }

  async up(endpoint: Endpoint): Promise<void> {
    const holder = this.#keyByIface.get(endpoint.hostIface);
    if (holder !== undefined && holder !== endpoint.key) await this.down(holder);
    const known = this.#byKey.get(endpoint.key);
    if (known !== undefined && isSame(known, endpoint)) return;
    if (known !== undefined) this.#takeOut(known);
    this.#byKey.set(endpoint.key, endpoint);
    for (const ip of endpoint.ips) this.#byIP.getOrInsertComputed(ip, () => new Set()).add(endpoint);
    this.#keyByIface.set(endpoint.hostIface, endpoint.key);
    await this.#listener.endpointUp(endpoint);
  }

  async down(key: string): Promise<void> {
    const endpoint = this.#byKey.get(key);
    if (endpoint === undefined) return;
    this.#byKey.delete(key);
    this.#takeOut(endpoint);
    this.#keyByIface.delete(endpoint.hostIface);
    await this.#listener.endpointDown(endpoint);
  }

  /** An endpoint that is up and has one of the addresses, on another interface of the host than this one. */
  holderOf(ips: readonly IP[], hostIface: string): Endpoint | undefined {
    const holders = ips.flatMap((ip) => [...(this.#byIP.get(ip) ?? [])]);
    return holders.find((endpoint) => endpoint.hostIface !== hostIface);
  }

  /** Whether an endpoint is up, and so needs no announcement. */
  has(key: string): boolean {
    return this.#byKey.has(key);
  }

  /** The endpoint that is up on an interface of the host. */
  on(hostIface: string): Endpoint | undefined {
    const key = this.#keyByIface.get(hostIface);
    return key === undefined ? undefined : this.#byKey.get(key);
  }

  #takeOut(endpoint: Endpoint): void {
    for (const ip of endpoint.ips) {
      const holders = this.#byIP.get(ip);
      holders?.delete(endpoint);
      if (holders?.size === 0) this.#byIP.delete(ip);
    }
  }
}

function isSame(a: Endpoint, b: Endpoint): boolean {
  return (
    a.hostIface === b.hostIface &&
    a.hostIfIndex === b.hostIfIndex &&
    a.ips.length === b.ips.length &&
    a.ips.every((ip, i) => ip === b.ips[i]) &&
    a.allowedSourcePrefixes?.join() === b.allowedSourcePrefixes?.join()
  );
}

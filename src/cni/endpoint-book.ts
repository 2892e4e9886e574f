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

  constructor(listener: EndpointListener) {
    this.#listener = listener;
  }

  async up(endpoint: Endpoint): Promise<void> {
    const holder = this.#keyByIface.get(endpoint.hostIface);
    if (holder !== undefined && holder !== endpoint.key) await this.down(holder);
    const known = this.#byKey.get(endpoint.key);
    if (known !== undefined && isSame(known, endpoint)) return;
    this.#byKey.set(endpoint.key, endpoint);
    this.#keyByIface.set(endpoint.hostIface, endpoint.key);
    await this.#listener.endpointUp(endpoint);
  }

  async down(key: string): Promise<void> {
    const endpoint = this.#byKey.get(key);
    if (endpoint === undefined) return;
    this.#byKey.delete(key);
    this.#keyByIface.delete(endpoint.hostIface);
    await this.#listener.endpointDown(endpoint);
  }

  /** An endpoint that is up and has one of the addresses, on another interface of the host than this one. */
  holderOf(ips: readonly IP[], hostIface: string): Endpoint | undefined {
    const others = this.#byKey.values().filter((endpoint) => endpoint.hostIface !== hostIface);
    return others.find((endpoint) => endpoint.ips.some((ip) => ips.includes(ip)));
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

// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Family } from "../../net/ip.ts";
import type { Finding } from "../calc/findings.ts";
import {
  addressOf,
  type DetectedAddress,
  type DetectedAddresses,
  type NodeAddress,
  resolveNodeAddresses,
} from "../calc/node-addresses.ts";
import type { KernelAddr, KernelLink } from "../ports.ts";
import { type Candidate, type Detection, detectAddress, formatCandidate, type HostFacts } from "./detect.ts";
import type { Reach } from "./ports.ts";
import { type AddressSetting, type AddressSettings, type DetectionMethod, formatMethod } from "./settings.ts";

export interface DetectorOptions {
  readonly settings: AddressSettings;
  readonly reach: Reach;
  readonly clock: Clock;
  /** Between two looks although nothing changed. Units: milliseconds. @default 60_000 */
  readonly pollMs?: number;
}

/** A changed answer must last this long: a link that loses its address for a DHCP renewal must not move the node. */
const SETTLE_MS = 10_000;
const FAMILIES = [4, 6] as const;
const VARIABLES: Readonly<Record<Family, string>> = { 4: "IP", 6: "IP6" };

interface Known {
  readonly address: NodeAddress;
  /** Since when the method says something else. Units: Unix milliseconds. */
  readonly differsSinceMs?: number;
}

/**
 * Knows this node's addresses as its settings say them.
 *
 * Invariants: nothing is said before the Node object and the links are known; `detect` looks again only after one of
 * these changed or the time is up. An address that was found is kept until something else has been the answer for
 * 10 s, and while no answer can be given at all (nothing found, or several): the routes of a whole cluster hang on it.
 */
export class NodeAddressDetector {
  readonly #options: DetectorOptions;
  readonly #known = new Map<Family, Known>();
  readonly #problems = new Map<Family, Finding>();
  #node: Node | undefined;
  #host: { readonly links: readonly KernelLink[]; readonly addrs: readonly KernelAddr[] } | undefined;
  #isDirty = true;
  #dueMs = Number.POSITIVE_INFINITY;
  #detected: DetectedAddresses = {};

  constructor(options: DetectorOptions) {
    this.#options = options;
  }

  onLinks(links: readonly KernelLink[], addrs: readonly KernelAddr[]): void {
    this.#host = { links, addrs };
    this.#isDirty = true;
  }

  onNode(node: Node): void {
    this.#node = node;
    this.#isDirty = true;
  }

  /** When to look at links again although nothing changed; infinite when nothing is detected. Units: Unix milliseconds. */
  get dueMs(): number {
    return this.#dueMs;
  }

  /** What is known now; a family that is absent is as the Node object says. The same object while nothing changed. */
  async detect(): Promise<DetectedAddresses> {
    const { clock, settings, pollMs = 60_000 } = this.#options;
    const nowMs = clock.nowMs();
    if (this.#node === undefined || this.#host === undefined) return this.#detected;
    if (!this.#isDirty && nowMs < this.#dueMs) return this.#detected;
    this.#isDirty = false;
    const isDetecting = FAMILIES.some((family) => settings[family].kind === "detect");
    this.#dueMs = isDetecting ? nowMs + pollMs : Number.POSITIVE_INFINITY;
    const next: { -readonly [F in Family]?: DetectedAddress } = {};
    for (const family of FAMILIES) {
      const address = await this.#resolve(family, settings[family], nowMs);
      if (address !== undefined) next[family] = address;
    }
    if (!isSame(this.#detected, next)) this.#detected = next;
    return this.#detected;
  }

  /** Why a family's address is not what the method says. */
  findings(): readonly Finding[] {
    return [...this.#problems.values()];
  }

  async #resolve(family: Family, setting: AddressSetting, nowMs: number): Promise<DetectedAddress | undefined> {
    switch (setting.kind) {
      case "node-object":
        return undefined;
      case "none":
        return "none";
      case "explicit": {
        const { ip, prefixLength = this.#lengthOf(setting) } = setting;
        return { ip, method: "explicit", ...(prefixLength !== undefined && { prefixLength }) };
      }
      case "detect":
        return this.#settle(family, setting.method, await this.#detect(family, setting.method), nowMs) ?? "unknown";
      default:
        return setting satisfies never;
    }
  }

  async #detect(family: Family, method: DetectionMethod): Promise<Detection> {
    const node = this.#node;
    const source =
      method.kind === "can-reach" ? await this.#options.reach.sourceTowards(method.destination, family) : undefined;
    const current = node && addressOf(resolveNodeAddresses(node, ["annotation"]), family)?.ip;
    const facts: HostFacts = {
      links: this.#host?.links ?? [],
      addrs: this.#host?.addrs ?? [],
      internalIPs: node === undefined ? [] : internalIPsOf(node),
      ...(source !== undefined && { source }),
      ...(current !== undefined && { current }),
    };
    return detectAddress(method, family, facts);
  }

  #settle(family: Family, method: DetectionMethod, detection: Detection, nowMs: number): NodeAddress | undefined {
    const known = this.#known.get(family);
    const problem = problemOf(family, method, detection, known?.address);
    if (problem === undefined) this.#problems.delete(family);
    else this.#problems.set(family, problem);
    if (detection.kind !== "found") return known?.address;
    const address = toAddress(detection.candidate, method);
    if (known !== undefined && !sameAddress(known.address, address)) {
      const sinceMs = known.differsSinceMs ?? nowMs;
      if (nowMs - sinceMs < SETTLE_MS) {
        this.#known.set(family, { address: known.address, differsSinceMs: sinceMs });
        this.#dueMs = Math.min(this.#dueMs, sinceMs + SETTLE_MS);
        return known.address;
      }
    }
    this.#known.set(family, { address });
    return address;
  }

  #lengthOf({ ip }: { readonly ip: NodeAddress["ip"] }): number | undefined {
    return this.#host?.addrs.find((addr) => addr.ip === ip)?.prefixLength;
  }
}

function problemOf(
  family: Family,
  method: DetectionMethod,
  detection: Detection,
  kept: NodeAddress | undefined,
): Finding | undefined {
  const subject = `IPv${family} by ${formatMethod(method)}`;
  const still = kept === undefined ? "the node has no address" : `it stays ${formatCandidate(kept)}`;
  const remedy = `set ${VARIABLES[family]} to the address, or ${VARIABLES[family]}_AUTODETECTION_METHOD to what finds just one`;
  switch (detection.kind) {
    case "found":
      return undefined;
    case "absent": {
      const message = `Cannot find this node's ${subject}: ${detection.why}; ${still}; ${remedy}`;
      return { code: "NodeAddressNotFound", subject, message };
    }
    case "ambiguous": {
      const list = detection.candidates.map(formatCandidate).join(", ");
      const message = `This node's ${subject} is not certain: ${list} all suit; ${still}; ${remedy}`;
      return { code: "AmbiguousNodeAddress", subject, message };
    }
    default:
      return detection satisfies never;
  }
}

function toAddress({ ip, prefixLength }: Candidate, method: DetectionMethod): NodeAddress {
  return { ip, method: method.kind, ...(prefixLength !== undefined && { prefixLength }) };
}

function internalIPsOf(node: Node): readonly NodeAddress["ip"][] {
  const ips: NodeAddress["ip"][] = [];
  for (const address of node.status?.addresses ?? []) {
    const only = { ...node, status: { addresses: [address] } };
    const { ipv4, ipv6 } = resolveNodeAddresses(only, ["kubernetes-internal-ip"]);
    for (const found of [ipv4, ipv6]) if (found !== undefined) ips.push(found.ip);
  }
  return ips;
}

function isSame(a: DetectedAddresses, b: DetectedAddresses): boolean {
  return FAMILIES.every((family) => sameAddress(a[family], b[family]));
}

function sameAddress(a: DetectedAddress | undefined, b: DetectedAddress | undefined): boolean {
  if (typeof a !== "object" || typeof b !== "object") return a === b;
  return a.ip === b.ip && a.prefixLength === b.prefixLength;
}

// SPDX-License-Identifier: Apache-2.0
import type { Node } from "../../crds/core.ts";
import type { Clock } from "../../lib/clock.ts";
import { describeError } from "../../lib/errors.ts";
import { type Family, formatIP, type IP } from "../../net/ip.ts";
import { ApplyLoop } from "../apply-loop.ts";
import type { Finding } from "../calc/findings.ts";
import { addressOf, REMOTE_METHODS, resolveNodeAddresses } from "../calc/node-addresses.ts";
import type { Logger, Source } from "../ports.ts";
import type { EchoPort } from "./ports.ts";
import { measurePath } from "./search.ts";

export interface PathProbeOptions {
  readonly nodeName: string;
  readonly port: EchoPort;
  readonly nodes: Pick<Source<Node>, "list">;
  /** Size of the largest packet that pods make others send, tunnels' headers included; 0: not known yet. Units: bytes. */
  readonly neededBytes: () => number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

/** Between two looks at one path. Units: milliseconds. */
const EVERY_MS = 600_000;
/** Between two paths, so that a large cluster is no burst of packets. Units: milliseconds. */
const PACE_MS = 200;
const NOT_KNOWN_MS = 5000;

/**
 * Sends large packets to the other nodes now and then, and tells of paths that do not carry them: there pods connect, and hang
 * with the first large answer. It only tells: readiness does not depend on peers, nor on whether they answer.
 */
export class PathProbe {
  readonly #options: PathProbeOptions;
  readonly #loop: ApplyLoop;
  readonly #stopping = new AbortController();
  #findings: readonly Finding[] = [];

  constructor(options: PathProbeOptions) {
    this.#options = options;
    const { clock, random, log } = options;
    this.#loop = new ApplyLoop({
      clock,
      random,
      backoff: { baseMs: 10_000, maxMs: EVERY_MS },
      turn: () => this.#turn(),
      onError: (error) => {
        if (this.#stopping.signal.aborted) return;
        log.warn({ err: describeError(error) }, "paths between nodes cannot be probed; will retry");
      },
    });
  }

  start(): void {
    this.#loop.start();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop.stop();
  }

  /** As of the last look. */
  findings(): readonly Finding[] {
    return this.#findings;
  }

  async #turn(): Promise<number> {
    const { nodeName, port, nodes, neededBytes: needed, clock, random } = this.#options;
    const neededBytes = needed();
    if (neededBytes === 0) return NOT_KNOWN_MS;
    const findings: Finding[] = [];
    for (const node of nodes.list()) {
      if (node.metadata.name === nodeName) continue;
      for (const [family, ip] of addressesOf(node)) {
        await clock.sleep(PACE_MS, this.#stopping.signal).catch(() => {});
        if (this.#stopping.signal.aborted) return EVERY_MS;
        const path = await measurePath(
          async (bytes) => {
            // A path on which much is lost takes many packets, and nobody waits for them at the end.
            this.#stopping.signal.throwIfAborted();
            return await port.echo(ip, bytes);
          },
          family,
          neededBytes,
        );
        if (path.kind === "narrow") findings.push(tell(node.metadata.name, ip, path.bytes, neededBytes));
      }
    }
    this.#findings = findings;
    return EVERY_MS * (0.8 + 0.4 * random());
  }
}

function addressesOf(node: Node): readonly (readonly [Family, IP])[] {
  const addresses = resolveNodeAddresses(node, REMOTE_METHODS);
  return ([4, 6] as const).flatMap((family) => {
    const address = addressOf(addresses, family);
    return address === undefined ? [] : [[family, address.ip] as const];
  });
}

function tell(node: string, ip: IP, bytes: number, neededBytes: number): Finding {
  const message =
    `Packets to node ${node} (${formatIP(ip)}) get through up to ${bytes} bytes, and pods and tunnels send ${neededBytes}: large ` +
    `ones are lost. Correct the MTU of the network between the nodes, or of this node's link: ip link set LINK mtu ${bytes}`;
  return { code: "PathMTUTooSmall", subject: node, message };
}

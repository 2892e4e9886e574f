// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import type { EchoPort } from "../../felix/path-mtu/ports.ts";
import type { IP } from "../../net/ip.ts";
import { EchoSocket } from "../echo-socket.ts";

const ANSWER_MS = 500;
const POLL_MS = 5;

/** Echo requests from the calling thread's namespace, which is the host's. */
export class KernelEcho implements EchoPort {
  readonly #buffer = new Uint8Array(65_536);
  /** Tells this process's requests from others': raw sockets hear all answers. */
  readonly #id = process.pid & 0xffff;
  #sequence = 0;

  async echo(to: IP, packetBytes: number): Promise<boolean> {
    using socket = new EchoSocket(to);
    this.#sequence = (this.#sequence + 1) & 0xffff;
    const sequence = this.#sequence;
    if (!socket.send(this.#id, sequence, packetBytes)) return false;
    for (let waitedMs = 0; waitedMs < ANSWER_MS; waitedMs += POLL_MS) {
      const outcome = socket.outcome(this.#id, sequence, this.#buffer);
      if (outcome !== "waiting") return outcome === "answered";
      await sleep(POLL_MS);
    }
    return false;
  }
}

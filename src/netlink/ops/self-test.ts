// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from "node:timers/promises";
import type { PodWiring } from "../../cni/ports.ts";
import type { SelfTestPort, TestPair } from "../../felix/self-test/ports.ts";
import { cidrOf } from "../../net/cidr.ts";
import { formatIP, type IP } from "../../net/ip.ts";
import { DatagramSocket } from "../datagram.ts";
import { NetlinkError, SelfTestError } from "../errors.ts";
import { createNetns, type OpenNetns, withNetns } from "../netns.ts";

/** Nobody else is in these namespaces, so any will do. */
const PORT = 7;
/** A packet of a pod needs a millisecond. The machine may be busy. Units: milliseconds. */
const TIMEOUT_MS = 2000;
const RESEND_MS = 250;
const POLL_MS = 2;
const IFACES = ["caliselftest0", "caliselftest1"] as const;

/**
 * Two network namespaces without a name, wired as ADD wires pods, and one UDP packet from the one to the other and back:
 * through veth, routes, forwarding and packet filters of this node, ours and others'.
 *
 * All of it hangs on descriptors, so a process that is killed leaves nothing behind.
 */
export class KernelSelfTest implements SelfTestPort {
  readonly #wiring: Pick<PodWiring, "wire" | "unwire">;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(wiring: Pick<PodWiring, "wire" | "unwire">) {
    this.#wiring = wiring;
  }

  exchange(pair: TestPair): Promise<void> {
    const done = this.#turn.then(() => this.#exchange(pair));
    this.#turn = done.catch(() => {});
    return done;
  }

  async #exchange([from, to]: TestPair): Promise<void> {
    await using stack = new AsyncDisposableStack();
    const sender = stack.use(openSocket(await this.#addPod(stack, IFACES[0], from), from, to));
    const receiver = stack.use(openSocket(await this.#addPod(stack, IFACES[1], to), to, from));
    await bounce(sender, receiver, `${formatIP(from)} to ${formatIP(to)}`);
  }

  async #addPod(stack: AsyncDisposableStack, hostIface: string, ip: IP): Promise<OpenNetns> {
    const netns = stack.use(createNetns());
    const { hostIfIndex } = await this.#wiring.wire({
      netns: `/proc/self/fd/${netns.fd}`,
      contIface: "eth0",
      hostIface,
      ips: [ip],
      // The least that IPv6 allows: it fits everywhere, and nobody takes it for a pod whose MTU is too large.
      mtuBytes: 1280,
      routes: [cidrOf(ip, 0)],
      allowIPForwarding: false,
    });
    stack.defer(async () => void (await this.#wiring.unwire({ hostIface, hostIfIndex })));
    return netns;
  }
}

function openSocket(netns: OpenNetns, local: IP, remote: IP): DatagramSocket {
  return withNetns(netns, () => new DatagramSocket(local, remote, PORT));
}

/** @throws SelfTestError */
async function bounce(sender: DatagramSocket, receiver: DatagramSocket, way: string): Promise<void> {
  const [ping, buffer] = [new TextEncoder().encode("gingham"), new Uint8Array(64)];
  let hasArrived = false;
  try {
    for (let waitedMs = 0; waitedMs < TIMEOUT_MS; waitedMs += POLL_MS) {
      if (waitedMs % RESEND_MS === 0) sender.send(ping);
      for (let heard = receiver.receive(buffer); heard !== undefined; heard = receiver.receive(buffer)) {
        hasArrived = true;
        receiver.send(heard);
      }
      if (sender.receive(buffer) !== undefined) return;
      await sleep(POLL_MS);
    }
  } catch (cause) {
    const why = cause instanceof NetlinkError ? cause.errnoName : String(cause);
    throw new SelfTestError(`a packet from ${way} on this node was refused with ${why}`, { cause });
  }
  const what = hasArrived ? "arrived, and its answer did not come back" : "did not arrive";
  throw new SelfTestError(`a packet from ${way} on this node ${what} within ${TIMEOUT_MS / 1000} s`);
}

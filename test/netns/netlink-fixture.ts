// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import type { WiringPlan } from "../../src/cni/ports.ts";
import { parseCIDR } from "../../src/net/cidr.ts";
import { parseIP } from "../../src/net/ip.ts";
import { setns } from "../../src/netlink/libc.ts";
import { type Synchronous, withNetns } from "../../src/netlink/netns.ts";
import { enableForwarding } from "../../src/netlink/sysctl.ts";

export function sh(command: string, ...args: readonly string[]): string {
  return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** `ip`, with its words in one string. */
export function ip(words: string): string {
  return sh("ip", ...words.split(" "));
}

/** What `ip -j` and `bridge -j` print; tests only compare fields of it. */
export type Row = Readonly<Record<string, unknown>>;

export function rows(command: "ip" | "bridge", words: string): Row[] {
  const text = sh(command, "-j", ...words.split(" "));
  return text.trim() === "" ? [] : (JSON.parse(text) as Row[]); // Its shape is iproute2's.
}

/** A named network namespace, deleted when disposed. Names begin with `netl-`, which tells leftovers. */
export class Netns implements Disposable {
  readonly name: string;
  readonly path: string;

  constructor(name: string) {
    this.name = `netl-${name}`;
    this.path = `/run/netns/${this.name}`;
    ip(`netns add ${this.name}`);
  }

  /** Runs a synchronous function, and any command it starts, inside. */
  run<F extends () => unknown>(fn: Synchronous<F>): ReturnType<F> {
    const fd = openSync(this.path, "r");
    try {
      return withNetns<F>({ fd }, fn);
    } finally {
      closeSync(fd);
    }
  }

  /** Sends one packet and waits a second for its answer: a lost first packet fails. */
  pings(address: string): boolean {
    return this.run(() => pings(address));
  }

  [Symbol.dispose](): void {
    ip(`netns delete ${this.name}`);
  }
}

export function pings(address: string): boolean {
  try {
    sh("ping", "-c", "1", "-W", "1", "-n", address);
    return true;
  } catch {
    return false;
  }
}

/**
 * Moves the test's thread into a namespace that plays the host, with a default route (proxy ARP only answers for what
 * the host can route) and forwarding. Child processes and worker threads follow.
 */
export function enterHost(name: string): Netns {
  const host = new Netns(name);
  const home = openSync("/proc/thread-self/ns/net", "r");
  const fd = openSync(host.path, "r");
  setns(fd);
  closeSync(fd);
  ip("link set lo up");
  ip("link add up0 type veth peer name up1");
  ip("link set up1 up");
  ip("link set up0 up");
  ip("addr add 192.0.2.1/24 dev up0");
  ip("addr add 2001:db8::1/64 dev up0 nodad");
  ip("route add default via 192.0.2.254");
  ip("-6 route add default via 2001:db8::fe dev up0");
  enableForwarding();
  const dispose = host[Symbol.dispose].bind(host);
  return Object.assign(host, {
    [Symbol.dispose]() {
      setns(home);
      closeSync(home);
      dispose();
    },
  });
}

export function sysctl(path: string): string {
  return readFileSync(`/proc/sys/net/${path}`, "utf8").trim();
}

/** A plan for pod n of a test; `families` says which addresses it has. */
export function planFor(pod: Netns, n: number, families: "v4" | "v6" | "dual" = "dual"): WiringPlan {
  const v4 = parseIP(`10.65.0.${n}`);
  const v6 = parseIP(`fd00:65::${n.toString(16)}`);
  return {
    netns: pod.path,
    contIface: "eth0",
    hostIface: `cali${n.toString(16).padStart(11, "0")}`,
    ips: { v4: [v4], v6: [v6], dual: [v4, v6] }[families],
    mtuBytes: 1450,
    routes: [parseCIDR("0.0.0.0/0"), parseCIDR("::/0")],
    allowIPForwarding: false,
  };
}

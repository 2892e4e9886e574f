// SPDX-License-Identifier: Apache-2.0
import type { Answer, Link, Machine } from "../conformance/types.ts";
import { run, runOk } from "./run.ts";

const NETNS_DIR = "/run/netns";

/** What `ip -json address show` prints of a link. */
interface ShownLink {
  readonly ifname: string;
  readonly address: string;
  readonly mtu: number;
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number; readonly scope: string }[];
}

/** A plugin on the machine (or in the sandbox) that this process is in, with namespaces that `ip netns` makes. */
export class PluginMachine implements Machine {
  readonly #program: string;
  #made = 0;

  constructor(program: string) {
    this.#program = program;
  }

  call(env: Readonly<Record<string, string>>, stdin: string): Promise<Answer> {
    // Plugins look for iptables and the like.
    return run([this.#program], { env: { PATH: process.env["PATH"], ...env }, input: stdin });
  }

  async addNamespace(): Promise<string> {
    const name = `conformance-${process.pid}-${++this.#made}`;
    await runOk(["ip", "netns", "add", name]);
    await runOk(["ip", "-n", name, "link", "set", "lo", "up"]);
    return `${NETNS_DIR}/${name}`;
  }

  async removeNamespace(path: string): Promise<void> {
    await run(["ip", "netns", "del", nameOf(path)]);
  }

  async links(path?: string): Promise<readonly Link[]> {
    const where = path === undefined ? [] : ["-n", nameOf(path)];
    const shown = JSON.parse(await runOk(["ip", ...where, "-json", "address", "show"])) as readonly ShownLink[];
    return shown
      .filter(({ ifname }) => ifname !== "lo")
      .map(({ ifname, address, mtu, addr_info }) => ({
        name: ifname,
        mac: address,
        mtu,
        addresses: addr_info
          .filter(({ scope }) => scope === "global")
          .map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      }));
  }

  async addLink(path: string, name: string): Promise<void> {
    // Plugins need veth anyway; not every kernel has dummy.
    await runOk(["ip", "-n", nameOf(path), "link", "add", name, "type", "veth", "peer", "name", "conform-peer"]);
  }

  async removeLink(path: string, name: string): Promise<void> {
    await runOk(["ip", "-n", nameOf(path), "link", "del", name]);
  }

  async removeAddresses(path: string, name: string): Promise<void> {
    await runOk(["ip", "-n", nameOf(path), "address", "flush", "dev", name, "scope", "global"]);
  }
}

function nameOf(path: string): string {
  return path.slice(NETNS_DIR.length + 1);
}

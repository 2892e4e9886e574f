// SPDX-License-Identifier: Apache-2.0
import { expect, vi } from "vitest";
import { type Machine, NETWORK, type Sandbox } from "./machine.ts";

/** All comes at once, but what a busy machine had to defer, which a sweep does 20 s later. */
const PATIENCE = { timeout: 30_000, interval: 20 };

/**
 * Waits until the machine has exactly these sandboxes: for each one pair, one route, one address, one handle that counts
 * one, one record. Nothing of anybody else, in kernel, datastore or files.
 */
export async function expectWired(machine: Machine, sandboxes: readonly Sandbox[]): Promise<void> {
  await vi.waitFor(async () => {
    const held = await machine.cluster.heldBy(machine.node);
    const links = machine.links();
    const state = {
      handles: await machine.cluster.handles(`${NETWORK}.${machine.node}-`),
      held: held.map(({ handleID }) => handleID).sort(),
      files: machine.files(),
      links: links.length,
      routes: [...machine.podRoutes()].sort(),
    };
    const ips = sandboxes.map((sandbox) => machine.addressesIn(sandbox)?.[0] ?? "none");
    const ofIP = (ip: string): string | undefined => held.find((one) => one.ip === ip)?.handleID;
    const wanted = {
      handles: sandboxes.map(({ containerID }) => `${NETWORK}.${containerID}: 1`),
      held: sandboxes.map(({ containerID }) => `${NETWORK}.${containerID}`).sort(),
      files: sandboxes.map(({ containerID }) => `attachments/${containerID}:eth0.json`),
      links: sandboxes.length,
      routes: ips.map((ip, i) => `${ip} dev ${links[i]}`).sort(),
      owners: sandboxes.map(({ containerID }) => `${NETWORK}.${containerID}`),
    };
    // As text, so that a failure shows all of it.
    expect(JSON.stringify({ ...state, owners: ips.map(ofIP) })).toBe(JSON.stringify(wanted));
  }, PATIENCE);
}

export async function expectNothing(machine: Machine): Promise<void> {
  await expectWired(machine, []);
}

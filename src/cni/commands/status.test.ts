// SPDX-License-Identifier: Apache-2.0
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { IPAMError, type IPAMErrorCode } from "../../ipam/errors.ts";
import { FakeMachine, type FakeProcess } from "../fake-cni.ts";

let machine: FakeMachine;
let agent: FakeProcess;
beforeEach(() => {
  machine = new FakeMachine();
  agent = machine.start();
});
afterEach(() => machine[Symbol.dispose]());

/** The error of STATUS, as `code message`; empty text when all is well. */
async function status(conf: object = {}): Promise<string> {
  const { stdout, exitCode } = await agent.call("STATUS", { conf: { cniVersion: "1.1.0", ...conf } });
  if (exitCode === 0) return stdout;
  const { code, msg, cniVersion } = JSON.parse(stdout) as { code: number; msg: string; cniVersion: string };
  expect(cniVersion).toBe("1.1.0");
  return `${code} ${msg}`;
}

describe("STATUS", () => {
  it("is good when an address can be had, and takes none", async () => {
    expect(await status()).toBe("");
    expect(machine.addresses.held).toEqual([]);
    expect(machine.addresses.requests).toEqual([]);
  });

  it.each<[IPAMErrorCode, string]>([
    ["NoAddress", "51 Node node-a can give no pod an address"],
    ["BlockLimit", "51 Node node-a can give no pod an address"],
    ["Overlap", "51 Node node-a can give no pod an address"],
    ["PoolNotFound", "51 Node node-a can give no pod an address"],
    ["NotReady", "50 Node node-a can attach no pod"],
    ["Datastore", "50 Node node-a can attach no pod"],
    ["BrokenObject", "50 Node node-a can attach no pod"],
  ])("answers %s with %s, and why", async (code, words) => {
    machine.addresses.away = new IPAMError(code, "the reason; the step");
    expect(await status()).toBe(`${words}: the reason; the step`);
  });

  it("asks for the families and pools of the configuration", async () => {
    const asked: unknown[] = [];
    machine.addresses.rehearse = async (request) => void asked.push(request);
    expect(await status({ ipam: { assign_ipv4: "false", assign_ipv6: "true", ipv6_pools: ["p"] } })).toBe("");
    expect(asked).toEqual([{ families: [6], pools: { 4: [], 6: ["p"] } }]);
  });

  it("says 50 while no record can be written, on a full or broken disk", async () => {
    rmSync(machine.stateDir, { recursive: true });
    writeFileSync(machine.stateDir, "");
    expect(await status()).toMatch(
      /^50 Node node-a can attach no pod: Records of attachments cannot be written: .*; look at/,
    );
    rmSync(machine.stateDir);
    expect(await status()).toBe("");
    expect(readdirSync(machine.stateDir)).toEqual([]);
  });

  it("overlooks an API server that is away for less than a minute", async () => {
    let awaySinceMs: number | undefined = machine.clock.nowMs();
    Object.assign(agent.cni, { datastoreAwaySinceMs: async () => awaySinceMs });
    expect(await status()).toBe("");
    await machine.clock.advance(59_999);
    expect(await status()).toBe("");
    await machine.clock.advance(1);
    expect(await status()).toMatch(/^50 .*the API server has not answered for 60 s; /);
    awaySinceMs = undefined;
    expect(await status()).toBe("");
  });

  it("refuses what an ADD would refuse", async () => {
    expect(await status({ mtu: "big" })).toMatch(/^7 /);
    expect(await status({ nodename: "node-b" })).toMatch(/^7 /);
  });

  it("does not fill log and journal", async () => {
    const verbs: unknown[] = [];
    Object.assign(agent.cni, { journal: { verb: (event: unknown) => verbs.push(event), address: () => {} } });
    machine.addresses.away = new IPAMError("NoAddress", "full");
    await status();
    expect(agent.logged.filter(({ level }) => level !== "debug")).toEqual([]);
    expect(verbs).toEqual([]);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { Execution, PluginRunner } from "../cni/delegation/types.ts";
import { MissingPluginError } from "../cni/errors.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { DEFAULT_NETWORK_CONFIG } from "./conflist.ts";
import { ConflistKeeper } from "./conflist-keeper.ts";
import { InstallError } from "./errors.ts";
import type { ConfDir } from "./ports.ts";

const SILENT = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** A folder in memory that waits to be looked at again until the test says so. */
function fakeDir() {
  const files = new Map<string, string>();
  const state = { failure: undefined as Error | undefined, looks: 0, change: (): void => {} };
  const dir: ConfDir = {
    path: "/etc/cni/net.d",
    list: async () => {
      state.looks++;
      return [...files].map(([name, text]) => ({ name, text }));
    },
    write: async (name, text) => {
      if (state.failure !== undefined) throw state.failure;
      files.set(name, text);
    },
    rename: async (name, to) => {
      files.set(to, files.get(name) ?? "");
      files.delete(name);
    },
    remove: async (name) => {
      files.delete(name);
    },
    watch: () => ({
      changed: (_timeoutMs, signal) =>
        new Promise((resolve) => {
          state.change = resolve;
          if (signal.aborted) resolve();
          signal.addEventListener("abort", () => resolve());
        }),
      close: () => {},
    }),
  };
  return { dir, files, state };
}

function runner(versions: Readonly<Record<string, readonly string[]>>): PluginRunner & { asked: Execution[] } {
  const asked: Execution[] = [];
  return {
    asked,
    run: async (execution) => {
      asked.push(execution);
      const supportedVersions = versions[execution.type];
      if (supportedVersions === undefined) throw new MissingPluginError(`${execution.type} is in no folder`);
      return { exitCode: 0, stdout: JSON.stringify({ cniVersion: "0.4.0", supportedVersions }), stderr: "" };
    },
  };
}

const ALL = { gingham: ["1.0.0", "1.1.0"], portmap: ["1.0.0"], bandwidth: ["1.0.0"] };

function start(versions: Readonly<Record<string, readonly string[]>> = ALL) {
  const fake = fakeDir();
  const clock = new FakeClock();
  const plugins = runner(versions);
  const keeper = new ConflistKeeper({
    dir: fake.dir,
    name: "10-gingham.conflist",
    template: async () => DEFAULT_NETWORK_CONFIG,
    others: "keep",
    binDir: "/opt/cni/bin",
    runner: plugins,
    clock,
    random: () => 0,
    log: SILENT,
  });
  const stop = new AbortController();
  return { ...fake, clock, plugins, keeper, stop };
}

/** Until everything that is not waiting for time or change has happened. */
async function settle(): Promise<void> {
  for (let i = 0; i < 60; i++) await Promise.resolve();
}

describe("ConflistKeeper", () => {
  test("writes the file when it is run and not before, and leaves it when it ends", async () => {
    const { keeper, files, plugins, stop } = start();
    await settle();
    expect(files.size).toBe(0);
    expect(keeper.check().ok).toBe(false);
    const running = keeper.run(stop.signal);
    await settle();
    expect(JSON.parse(files.get("10-gingham.conflist") ?? "")).toMatchObject({ cniVersion: "1.0.0" });
    expect(plugins.asked.map(({ type, env }) => `${type} ${env["CNI_COMMAND"]} ${env["CNI_PATH"]}`)).toEqual([
      "gingham VERSION /opt/cni/bin",
      "portmap VERSION /opt/cni/bin",
      "bandwidth VERSION /opt/cni/bin",
    ]);
    expect(keeper.check()).toEqual({ ok: true, detail: "/etc/cni/net.d/10-gingham.conflist is in place" });
    stop.abort();
    await running;
    expect(files.size).toBe(1);
  });

  test("writes it again when somebody takes it away, each time after a longer wait", async () => {
    const { keeper, files, state, clock, stop } = start();
    const running = keeper.run(stop.signal);
    await settle();
    const takeAway = async (waitMs: number): Promise<void> => {
      files.clear();
      state.change();
      await settle();
      await clock.advance(waitMs - 1);
      await settle();
      expect(files.size).toBe(0);
      await clock.advance(1);
      await settle();
      expect(files.size).toBe(1);
    };
    await takeAway(250);
    await takeAway(500);
    await takeAway(1000);
    await clock.advance(120_001);
    files.clear();
    state.change();
    await settle();
    expect(files.size).toBe(1);
    stop.abort();
    await running;
  });

  test("names a missing plugin, writes nothing, and goes on when it is there", async () => {
    const versions: Record<string, readonly string[]> = { ...ALL };
    delete versions["portmap"];
    const { keeper, files, state, stop } = start(versions);
    const running = keeper.run(stop.signal);
    await settle();
    expect(files.size).toBe(0);
    expect(keeper.check().detail).toContain("Plugin portmap of the chain cannot be used: portmap is in no folder");
    versions["portmap"] = ["0.4.0", "1.0.0"];
    state.change();
    await settle();
    expect(keeper.check().ok).toBe(true);
    stop.abort();
    await running;
  });

  test("tells what the disk refuses, and tries again", async () => {
    const { keeper, files, state, stop } = start();
    state.failure = new InstallError("Cannot write it: the disk is full");
    const running = keeper.run(stop.signal);
    await settle();
    expect(keeper.check()).toEqual({ ok: false, detail: "Cannot write it: the disk is full" });
    state.failure = undefined;
    state.change();
    await settle();
    expect(keeper.check().ok).toBe(true);
    expect(files.size).toBe(1);
    stop.abort();
    await running;
  });

  test("has a finding while another's comes first", async () => {
    const { keeper, files, stop } = start();
    files.set("00-00-first.conflist", "{");
    const running = keeper.run(stop.signal);
    await settle();
    expect(keeper.findings().map(({ subject }) => subject)).toEqual(["/etc/cni/net.d/00-00-first.conflist"]);
    stop.abort();
    await running;
  });
});

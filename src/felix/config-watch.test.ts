// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import type { FelixConfiguration } from "../crds/felix-configuration.ts";
import { ConfigWatch } from "./config-watch.ts";
import { ListenError } from "./errors.ts";
import { FakeLog, FakeSource } from "./fake-resources.ts";

class FakeObjects extends FakeSource<FelixConfiguration> {
  unreadable: string | undefined;
}

function configuration(name: string, spec: FelixConfiguration["spec"]): FelixConfiguration {
  return { apiVersion: "crd.projectcalico.org/v1", kind: "FelixConfiguration", metadata: { name }, spec };
}

function setUp(...args: readonly string[]) {
  const objects = new FakeObjects();
  const log = new FakeLog();
  const watch = new ConfigWatch({ local: { args, env: {}, hostName: "node-a" }, objects });
  return { objects, log, watch };
}

describe("ConfigWatch", () => {
  test("tells each change to its handler, and logs what is now and who says so", () => {
    const { objects, log, watch } = setUp();
    const heard: number[] = [];
    watch.follow(log, ({ vxlan }) => heard.push(vxlan.vni));
    objects.set(configuration("default", { vxlanVNI: 5 }));
    objects.set(configuration("node.node-a", { vxlanVNI: 6 }));
    objects.delete("node.node-a");
    objects.delete("default");
    expect(heard).toEqual([4096, 5, 6, 5, 4096]);
    expect(log.lines[1]?.fields).toEqual({
      setting: "vxlan-vni",
      was: "5",
      is: "6",
      from: "FelixConfiguration node.node-a: vxlanVNI",
    });
    expect(log.said("info").at(-1)).toBe("setting vxlan-vni is now the default");
  });

  test("is known when the objects are, and what they say has been told by then", async () => {
    const { objects, log, watch } = setUp();
    let isKnown = false;
    const known = watch.known.then(() => {
      isKnown = true;
    });
    await Promise.resolve();
    expect(isKnown).toBe(false);
    let vni = 0;
    watch.follow(log, ({ vxlan }) => {
      vni = vxlan.vni;
    });
    objects.set(configuration("default", { vxlanVNI: 5 }));
    objects.sync();
    await known;
    expect(vni).toBe(5);
  });

  test("a change that needs a restart is a finding until it is taken back", () => {
    const { objects, watch } = setUp("--metrics-port=9000");
    objects.set(configuration("default", { healthPort: 9199 }));
    expect(watch.take().healthPort).toBe(9199);
    expect(watch.findings()).toEqual([]);
    objects.set(configuration("default", { healthPort: 9299, prometheusMetricsPort: 1 }));
    expect(watch.findings()).toEqual([
      {
        code: "ConfigNeedsRestart",
        subject: "FelixConfiguration default: healthPort",
        message: "FelixConfiguration default: healthPort: is 9299 by now, and the agent runs with 9199; restart it",
      },
    ]);
    objects.delete("default");
    expect(watch.findings()).toMatchObject([{ code: "ConfigNeedsRestart", subject: "--health-port" }]);
    objects.set(configuration("default", { healthPort: 9199 }));
    expect(watch.findings()).toEqual([]);
  });

  test("what listens nowhere with the cluster's settings listens with the agent's own, and says so", async () => {
    const { objects, watch } = setUp("--health-port=9000");
    objects.set(configuration("default", { healthHost: "203.0.113.1" }));
    watch.take();
    const listen = async ({ healthHost, healthPort }: { healthHost: string; healthPort: number }): Promise<string> => {
      if (healthHost === "203.0.113.1") throw new ListenError(healthHost, healthPort, new Error("EADDRNOTAVAIL"));
      return await Promise.resolve(`${healthHost}:${healthPort}`);
    };
    expect(await watch.once(listen)).toBe("127.0.0.1:9000");
    expect(watch.findings()).toMatchObject([
      { code: "ConfigIgnored", subject: "FelixConfiguration default: healthHost" },
    ]);
    expect(watch.findings()[0]?.message).toContain("Cannot listen on 203.0.113.1:9000");
  });

  test("without a say of the cluster's, a port that cannot be opened is an error", async () => {
    const { watch } = setUp();
    watch.take();
    await expect(watch.once(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(watch.findings()).toEqual([]);
  });

  test("objects that may not be read are a finding", () => {
    const { objects, watch } = setUp();
    objects.unreadable = "Cannot list felixconfigurations: 403";
    expect(watch.findings()).toMatchObject([{ code: "ConfigUnreadable", subject: "FelixConfiguration" }]);
    expect(watch.findings()[0]?.message).toContain("403");
  });

  test("a flag that is wrong ends the start", () => {
    expect(() => setUp("--vxlan-vni=0")).toThrow("--vxlan-vni: ");
  });
});

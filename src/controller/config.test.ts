// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { ConfigError } from "../felix/errors.ts";
import { type ControllerConfig, controllerUsage, parseControllerConfig } from "./config.ts";
import { renderEvent } from "./reporter.ts";

function parse(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  fallbackIdentity = "x",
): ControllerConfig {
  return parseControllerConfig({ args, env, fallbackIdentity });
}

describe("parseControllerConfig()", () => {
  it("has defaults for everything", () => {
    expect(parse([], {}, "host-1")).toEqual({
      identity: "host-1",
      leaseNamespace: "kube-system",
      metricsHost: "0.0.0.0",
      metricsPort: 9094,
      isDryRun: false,
      requestsPerSecond: 100,
      logLevel: "info",
    });
  });

  it("reads the environment, and a flag wins over it", () => {
    const env = { POD_NAME: "pod-1", GINGHAM_DRY_RUN: "false", GINGHAM_METRICS_PORT: "1", KUBECONFIG: "/k" };
    expect(parse(["--dry-run", "--metrics-port=0"], env)).toMatchObject({
      identity: "pod-1",
      kubeconfig: "/k",
      isDryRun: true,
      metricsPort: 0,
    });
  });

  it.each([
    [["--frob", "1"], {}, "--frob 1"],
    [["--dry-run=maybe"], {}, "--dry-run"],
    [[], { GINGHAM_RELEASE_RATE: "0" }, "GINGHAM_RELEASE_RATE"],
    [["--log-level", "loud"], {}, "--log-level"],
  ])("refuses %j %j by the name under which it was given", (args, env, option) => {
    expect(() => parse(args, env)).toThrow(ConfigError);
    expect(() => parse(args, env)).toThrow(`${option}: `);
  });

  it("tells every flag in its usage", () => {
    expect(controllerUsage()).toContain("--requests-per-second");
  });
});

describe("renderEvent()", () => {
  const options = { nowMs: 1_787_395_200_000, instance: "me", suffix: "0" };

  it("names ten things and counts the others", () => {
    const things = Array.from({ length: 12 }, (_, i) => ({
      kind: "address" as const,
      what: `10.0.0.${i}`,
      node: "node-a",
      pool: "pool",
      why: "podGone: pod default/web",
    }));
    const event = renderEvent(things, options);
    expect(event).toMatchObject({
      reason: "FreedAddress",
      count: 12,
      involvedObject: { kind: "Node", name: "node-a" },
    });
    expect(event?.message).toMatch(/^Freed 12 x address: 10\.0\.0\.0 \(podGone: pod default\/web\), .* and 2 more$/);
  });

  it("is about IPAM itself when no node is known", () => {
    const thing = { kind: "handle" as const, what: "net.x", node: "", pool: "", why: "noAddresses" };
    expect(renderEvent([thing], options)?.involvedObject.kind).toBe("IPAMConfig");
    expect(renderEvent([], options)).toBeUndefined();
  });
});

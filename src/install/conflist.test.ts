// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import {
  type ConflistTemplate,
  DEFAULT_NETWORK_CONFIG,
  parseTemplate,
  programsOf,
  renderConflist,
} from "./conflist.ts";
import { ConflistError } from "./errors.ts";

const OURS = ["0.4.0", "1.0.0", "1.1.0"];
const DEBIAN = ["0.4.0", "1.0.0"];

function render(template: Partial<ConflistTemplate>, ...reported: readonly (readonly string[])[]): object {
  const versions = new Map(reported.map((list, i) => [`plugin-${i}`, list]));
  return JSON.parse(renderConflist({ ...parseTemplate(DEFAULT_NETWORK_CONFIG), ...template }, versions)) as object;
}

describe("renderConflist()", () => {
  test("writes the highest version that all plugins report", () => {
    expect(render({}, OURS, DEBIAN)).toEqual({ cniVersion: "1.0.0", ...JSON.parse(DEFAULT_NETWORK_CONFIG) });
    expect(render({}, OURS, ["0.3.1", "0.4.0"])).toMatchObject({ cniVersion: "0.4.0" });
  });

  test("names a version above 1.0.0 where only runtimes that know it read it", () => {
    expect(render({}, OURS, OURS)).toMatchObject({ cniVersion: "1.0.0", cniVersions: ["1.0.0", "1.1.0"] });
    expect(render({}, OURS, DEBIAN)).not.toHaveProperty("cniVersions");
  });

  test("takes the template's version for the highest, and writes it for all runtimes", () => {
    const newest = render({ cniVersion: "1.1.0" }, OURS, OURS);
    expect(newest).toMatchObject({ cniVersion: "1.1.0" });
    expect(newest).not.toHaveProperty("cniVersions");
    expect(render({ cniVersion: "0.4.0" }, OURS, OURS)).toMatchObject({ cniVersion: "0.4.0" });
    expect(render({ cniVersion: "1.1.0" }, OURS, DEBIAN)).toMatchObject({ cniVersion: "1.0.0" });
  });

  test("refuses a chain without a common version, and says who speaks what", () => {
    const error =
      "have no version of CNI in common: plugin-0 speaks 0.4.0, 1.0.0, 1.1.0; plugin-1 speaks 0.2.0; update";
    expect(() => render({}, OURS, ["0.2.0"])).toThrow(error);
  });

  test("leaves every other key as it is", () => {
    const plugins = [
      { type: "gingham", mtu: 1400 },
      { type: "tuning", sysctl: { "net.core.somaxconn": "500" } },
    ];
    expect(render({ plugins, disableCheck: true } as Partial<ConflistTemplate>, OURS)).toMatchObject({
      plugins,
      disableCheck: true,
    });
  });
});

describe("parseTemplate()", () => {
  test.each([
    ["{", "is not JSON"],
    ["[]", "is not an object"],
    ['{"plugins":[{"type":"gingham"}]}', "name is missing"],
    ['{"name":"a b","plugins":[{"type":"gingham"}]}', 'name is "a b"'],
    ['{"name":"n","plugins":[]}', "plugins is []"],
    ['{"name":"n","plugins":[{"type":"gingham"},{"name":"x"}]}', "plugins[1].type is missing"],
    ['{"name":"n","plugins":[{"type":"../sh"}]}', 'plugins[0].type is "../sh"'],
    ['{"name":"n","plugins":[{"type":"calico"}]}', 'plugins[0].type is "calico"; want gingham'],
    ['{"name":"n","cniVersion":"2.0.0","plugins":[{"type":"gingham"}]}', 'cniVersion is "2.0.0"'],
  ])("refuses %s", (text, message) => {
    expect(() => parseTemplate(text)).toThrow(ConflistError);
    expect(() => parseTemplate(text)).toThrow(message);
  });
});

describe("programsOf()", () => {
  test("has each plugin once, another IPAM plugin among them, and not what the agent answers itself", () => {
    expect(programsOf(parseTemplate(DEFAULT_NETWORK_CONFIG))).toEqual(["gingham", "portmap", "bandwidth"]);
    const plugins = [{ type: "gingham", ipam: { type: "host-local" } }, { type: "tuning" }, { type: "tuning" }];
    expect(programsOf({ name: "n", plugins })).toEqual(["gingham", "host-local", "tuning"]);
  });
});

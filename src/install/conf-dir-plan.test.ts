// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ConfDirStep, type Others, planConfDir, planConfDirRemoval } from "./conf-dir-plan.ts";
import type { ConfFile } from "./ports.ts";

const NAME = "10-gingham.conflist";
const TEXT = '{"plugins":[{"type":"gingham"}]}';

function network(name: string, type: string): ConfFile {
  return { name, text: JSON.stringify({ plugins: [{ type }] }) };
}

function plan(files: readonly ConfFile[], others: Others = "keep") {
  return planConfDir(files, { name: NAME, text: TEXT, others });
}

/** The folder after the steps. */
function apply(files: readonly ConfFile[], steps: readonly ConfDirStep[]): readonly ConfFile[] {
  const after = new Map(files.map((file) => [file.name, file]));
  for (const step of steps) {
    const file = after.get(step.name);
    if (step.kind === "write") after.set(step.name, { name: step.name, text: step.text });
    else after.delete(step.name);
    if (step.kind === "rename" && file !== undefined) after.set(step.to, { ...file, name: step.to });
  }
  return [...after.values()];
}

const CALICO = network("10-calico.conflist", "calico");

describe("planConfDir()", () => {
  test("writes ours into an empty folder, writes it again when it was changed, and else does nothing", () => {
    expect(plan([])).toEqual({ steps: [{ kind: "write", name: NAME, text: TEXT, was: "missing" }], before: [] });
    expect(plan([{ name: NAME, text: TEXT }])).toEqual({ steps: [], before: [] });
    expect(plan([{ name: NAME, text: "{" }]).steps).toEqual([
      { kind: "write", name: NAME, text: TEXT, was: "different" },
    ]);
    expect(plan([{ name: NAME }]).steps).toMatchObject([{ kind: "write", was: "different" }]);
  });

  test("goes by a lower number where another's would come first, and back when that is gone", () => {
    const beside = plan([CALICO, { name: NAME, text: TEXT }]);
    expect(beside.steps).toEqual([
      { kind: "write", name: "05-gingham.conflist", text: TEXT, was: "missing" },
      { kind: "remove", name: NAME },
    ]);
    expect(beside.before).toEqual([]);
    expect(plan([{ name: "05-gingham.conflist", text: TEXT }]).steps).toEqual([
      { kind: "write", name: NAME, text: TEXT, was: "missing" },
      { kind: "remove", name: "05-gingham.conflist" },
    ]);
    expect(plan([network("05-cilium.conflist", "cilium-cni")]).steps).toMatchObject([{ name: "00-gingham.conflist" }]);
  });

  test("leaves what comes later alone: the runtime reads only the first", () => {
    const steps = plan([network("87-podman-bridge.conflist", "bridge"), network("10-kubenet.conf", "x")]).steps;
    expect(steps).toMatchObject([{ kind: "write", name: NAME }]);
  });

  test("lets multus be first, which calls the next network itself", () => {
    expect(plan([network("00-multus.conf", "multus")]).steps).toMatchObject([{ name: NAME }]);
    expect(plan([network("00-multus.conf", "multus-shim")], "rename").steps).toMatchObject([{ name: NAME }]);
  });

  test("counts a file that nobody can parse, and not one that nobody reads", () => {
    expect(plan([{ name: "05-broken.conflist", text: "{" }]).steps).toMatchObject([{ name: "00-gingham.conflist" }]);
    const unread = ["00-old.conflist.bak", "00-calico-kubeconfig", ".00-x.conflist.gingham-new"];
    expect(plan(unread.map((name) => ({ name, text: "{" }))).steps).toMatchObject([{ name: NAME }]);
  });

  test("names what still comes first", () => {
    expect(plan([network("00-00-a.conflist", "x"), network("20-b.conf", "y")]).before).toEqual(["00-00-a.conflist"]);
  });

  test("renames others when told to, after ours is there", () => {
    expect(plan([CALICO, network("00-multus.conf", "multus")], "rename").steps).toEqual([
      { kind: "write", name: NAME, text: TEXT, was: "missing" },
      { kind: "rename", name: "10-calico.conflist", to: "10-calico.conflist.gingham-bak" },
    ]);
  });

  test("reaches its aim in one go, and gives every name back", () => {
    const names = fc.constantFrom(
      "00-00-a.conf",
      "00-multus.conf",
      "05-gingham.conflist",
      "10-calico.conflist",
      "10-calico.conflist.gingham-bak",
      "10-gingham.conflist",
      "99-loopback.json",
      "README",
    );
    const file = fc.record({ name: names, text: fc.constantFrom(TEXT, "{", '{"type":"x"}', '{"type":"multus"}') });
    const folder = fc.uniqueArray(file, { selector: ({ name }) => name });
    fc.assert(
      fc.property(folder, fc.constantFrom<Others>("keep", "rename"), (files, others) => {
        const { steps, before } = plan(files, others);
        const after = apply(files, steps);
        expect(plan(after, others)).toEqual({ steps: [], before });
        const read = after.map(({ name }) => name).filter((name) => /\.(conf|conflist|json)$/.test(name));
        const [ours, ...more] = read.filter((name) => name.endsWith("gingham.conflist"));
        expect(more).toEqual([]);
        const earlier = after.filter(
          ({ name, text }) => read.includes(name) && name < (ours ?? "") && !text?.includes("multus"),
        );
        expect(earlier.map(({ name }) => name).sort()).toEqual([...before].sort());
        if (others === "keep")
          for (const other of files) if (!other.name.endsWith("gingham.conflist")) expect(after).toContainEqual(other);
        const cleaned = apply(after, planConfDirRemoval(after, NAME)).map(({ name }) => name);
        expect(cleaned.filter((name) => name.endsWith("gingham.conflist"))).toEqual([]);
        const originals = files
          .map(({ name }) => name.replace(".gingham-bak", ""))
          .filter((name) => !name.endsWith("gingham.conflist"));
        for (const name of originals) expect(cleaned).toContain(name);
      }),
    );
  });
});

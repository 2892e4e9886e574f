// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from "vitest";
import { renderCRD } from "../crds/definition.ts";
import { CUSTOM_RESOURCE_DEFINITIONS, declaresReleasedAt, type InstalledCRD } from "../crds/installed-crd.ts";
import { IPAM_BLOCK_KIND } from "../crds/ipam-block.ts";
import { FakeClock } from "../lib/fake-clock.ts";
import { BlockSchema } from "./block-schema.ts";
import { MemoryClient } from "./memory-client.ts";

/** As JSON, in which a manifest is read back. */
const TEXT = JSON.stringify(renderCRD(IPAM_BLOCK_KIND));
const OURS = JSON.parse(TEXT) as InstalledCRD;
/** As Calico 3.32 and before have it. */
const OLD = JSON.parse(TEXT.replaceAll("releasedAt", "other")) as InstalledCRD;

describe("declaresReleasedAt()", () => {
  it("is true of our CRD, and false of one without the field or without a schema", () => {
    expect(declaresReleasedAt(OURS)).toBe(true);
    expect(declaresReleasedAt(OLD)).toBe(false);
    expect(declaresReleasedAt({ ...OURS, spec: { versions: [{ name: "v1" }] } })).toBe(false);
    const v3 = { ...OURS, spec: { versions: OURS.spec.versions.map((version) => ({ ...version, name: "v3" })) } };
    expect(declaresReleasedAt(v3)).toBe(false);
  });
});

describe("BlockSchema", () => {
  it("reads the installed CRD every five minutes, and says once what is missing", async () => {
    const client = new MemoryClient();
    const clock = new FakeClock();
    const missing: unknown[] = [];
    const schema = new BlockSchema({ client, clock, onMissing: (why) => missing.push(why) });
    expect(await schema.keepsReleasedAt()).toBeUndefined();
    expect(String(missing[0])).toContain("ipamblocks.crd.projectcalico.org");
    const stored = await client.create(CUSTOM_RESOURCE_DEFINITIONS, OLD);
    await clock.advance(299_999);
    expect(await schema.keepsReleasedAt()).toBeUndefined();
    await clock.advance(1);
    expect(await schema.keepsReleasedAt()).toBe(false);
    expect(missing).toHaveLength(1);
    const { metadata } = await client.update(CUSTOM_RESOURCE_DEFINITIONS, { ...OURS, metadata: stored.metadata });
    await clock.advance(300_000);
    expect(await schema.keepsReleasedAt()).toBe(true);
    await client.update(CUSTOM_RESOURCE_DEFINITIONS, { ...OLD, metadata });
    await clock.advance(300_000);
    expect(await schema.keepsReleasedAt()).toBe(false);
    expect(missing[1]).toMatch(/has no releasedAt/);
  });
});

// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseIP } from "../net/ip.ts";
import type { PodLink, PodLinks } from "./ports.ts";

/** A kernel to try PodLinks on: a network namespace of the test's own, or the fake. Files are under /proc/sys/net. */
export interface PodLinksHarness {
  readonly podLinks: PodLinks;
  /** As the wiring makes it. */
  addLink(link: PodLink): Promise<void>;
  deleteLink(link: PodLink): Promise<void>;
  /** What other programs do. */
  set(file: string, value: 0 | 1): void;
  read(file: string): number | undefined;
  close(): Promise<void>;
}

const LINK: PodLink = { hostIface: "cali00000000001", ips: [parseIP("10.65.0.1")] };
const OTHER: PodLink = { hostIface: "cali00000000002", ips: [parseIP("10.65.0.2")] };
const FILES = ["proxy_arp", "forwarding"].map((name) => `ipv4/conf/${LINK.hostIface}/${name}`);

/** The suite that each PodLinks passes, so that the fake kernel cannot lie. */
export function podLinksContract(name: string, open: () => Promise<PodLinksHarness>): void {
  describe(`PodLinks (${name})`, () => {
    let harness: PodLinksHarness;

    beforeEach(async () => {
      harness = await open();
      await harness.addLink(LINK);
      await harness.addLink(OTHER);
    });
    afterEach(async () => await harness.close());

    test("finds nothing changed on links as they were made", async () => {
      expect(await harness.podLinks.listChanged([LINK, OTHER])).toEqual([]);
    });

    test("finds what others changed, on the links that it is asked for, and writes it back", async () => {
      const { podLinks } = harness;
      for (const file of FILES) harness.set(file, 0);
      expect(await podLinks.listChanged([OTHER])).toEqual([]);
      const changed = await podLinks.listChanged([LINK, OTHER]);
      expect(changed.map(({ path, value }) => [path.join("/"), value])).toEqual(FILES.map((file) => [file, 1]));
      expect(await podLinks.write(changed)).toEqual([undefined, undefined]);
      expect(FILES.map((file) => harness.read(file))).toEqual([1, 1]);
      expect(await podLinks.listChanged([LINK, OTHER])).toEqual([]);
    });

    test("a link that is gone has no settings, and one that goes before the write is no error", async () => {
      const { podLinks } = harness;
      for (const file of FILES) harness.set(file, 0);
      const changed = await podLinks.listChanged([LINK]);
      expect(changed).toHaveLength(2);
      await harness.deleteLink(LINK);
      expect(await podLinks.write(changed)).toEqual([undefined, undefined]);
      expect(await podLinks.listChanged([LINK])).toEqual([]);
    });
  });
}

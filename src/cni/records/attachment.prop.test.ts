// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, it } from "vitest";
import { cidrOf } from "../../net/cidr.ts";
import { type IP, ipFromBytes } from "../../net/ip.ts";
import type { AttachmentRecord, FileIdentity, IntentRecord } from "../types.ts";
import { decodeRecord, encodeRecord } from "./attachment.ts";

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const text = fc.string({ unit: "grapheme" });
const count = fc.nat();
const ip: fc.Arbitrary<IP> = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }).map(ipFromBytes),
  fc.uint8Array({ minLength: 16, maxLength: 16 }).map(ipFromBytes),
);
const file: fc.Arbitrary<FileIdentity> = fc.record({ dev: u64, inode: u64 });
const optional = { requiredKeys: ["namespace", "name"] } satisfies { requiredKeys: ("namespace" | "name")[] };
const pod = fc.record({ namespace: text, name: text, uid: text }, optional);
const delegation = fc.record(
  {
    type: text,
    env: fc.dictionary(
      text.filter((key) => key !== "__proto__"),
      text,
    ),
    conf: text,
    answer: text,
  },
  { requiredKeys: ["type", "env", "conf"] },
);
const base = { handleID: text, atMs: count };
const vantage: fc.Arbitrary<IntentRecord["netns"]["vantage"]> = fc.record(
  { mntns: u64, pidns: u64, dir: file },
  { requiredKeys: ["mntns", "pidns"] },
);
const kernel = { bootID: text, netns: fc.record({ path: text, identity: file, vantage }), hostIface: text };
const allocation = fc.record({ ip, block: ip.map((a) => cidrOf(a, 26)), handleID: text, sequenceNumber: u64 });
const result = fc.record({
  host: fc.record({ name: text, mac: text }),
  container: fc.record({ name: text, mac: text, mtuBytes: count, sandbox: text }),
  ips: fc.array(ip),
  routes: fc.array(fc.record({ dst: fc.constant("0.0.0.0/0"), gw: text }, { requiredKeys: ["dst"] })),
  dns: fc.record({ nameservers: fc.array(text) }, { requiredKeys: [] }),
});
const record: fc.Arbitrary<AttachmentRecord> = fc.oneof(
  fc.record(
    {
      state: fc.constant("intent" as const),
      ...base,
      delegation,
      ...kernel,
      executor: fc.record({ pid: count, startTicks: count }),
    },
    { requiredKeys: ["state", "handleID", "atMs", "bootID", "netns", "executor"] },
  ),
  fc.record({
    state: fc.constant("assigned" as const),
    ...base,
    bootID: text,
    netns: kernel.netns,
    allocations: fc.array(allocation),
    result: fc.record({
      ips: fc.array(fc.record({ address: text, gateway: text }, { requiredKeys: ["address"] })),
      routes: fc.array(fc.record({ dst: fc.constant("::/0"), gw: text }, { requiredKeys: ["dst"] })),
    }),
  }),
  fc.record(
    {
      state: fc.constant("whole" as const),
      ...base,
      pod,
      delegation,
      ...kernel,
      hostIfIndex: count,
      allocations: fc.array(allocation),
      result,
      allowedSourcePrefixes: fc.array(fc.constant("10.20.0.0/16"), { minLength: 1 }),
    },
    {
      requiredKeys: [
        "state",
        "handleID",
        "atMs",
        "bootID",
        "netns",
        "hostIface",
        "hostIfIndex",
        "allocations",
        "result",
      ],
    },
  ),
  fc.record(
    {
      state: fc.constant("releasing" as const),
      ...base,
      pod,
      delegation,
      link: fc.record({ bootID: text, hostIface: text, hostIfIndex: count }),
      allocations: fc.array(allocation),
    },
    { requiredKeys: ["state", "handleID", "atMs"] },
  ),
);

it("decodeRecord(encodeRecord(x)) is x, 64-bit integers included", () => {
  fc.assert(
    fc.property(record, (x) => {
      expect(decodeRecord("r", encodeRecord(x))).toEqual(x);
    }),
  );
});

it("decodeRecord() takes the last complete line, wherever the next one was torn", () => {
  fc.assert(
    fc.property(record, record, fc.nat(), (first, second, cut) => {
      const [a, b] = [encodeRecord(first), encodeRecord(second)];
      expect(decodeRecord("r", a + b)).toEqual(second);
      expect(decodeRecord("r", a + b.slice(0, cut % b.length))).toEqual(first);
      expect(decodeRecord("r", a.slice(0, cut % a.length))).toBeUndefined();
    }),
  );
});

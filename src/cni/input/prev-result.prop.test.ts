// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, it } from "vitest";
import { parseIP } from "../../net/ip.ts";
import { comparePrevResult } from "../check.ts";
import { CNIError } from "../errors.ts";
import { renderResult } from "../result.ts";
import type { AddResult, WholeRecord } from "../types.ts";
import { parsePrevResult } from "./prev-result.ts";

const GATEWAY = { 4: "169.254.1.1", 6: "fe80::ecee:eeff:feee:eeee" };

const results: fc.Arbitrary<AddResult> = fc
  .record({
    ips: fc.uniqueArray(fc.oneof(fc.ipV4(), fc.ipV6()), { minLength: 1, maxLength: 4 }),
    mtuBytes: fc.integer({ min: 0, max: 65_535 }),
    sandbox: fc.stringMatching(/^\/run\/netns\/[a-z0-9-]{1,20}$/),
    name: fc.stringMatching(/^[a-z]{1,10}[0-9]{1,4}$/),
  })
  .map(({ ips, mtuBytes, sandbox, name }) => ({
    host: { name: "cali01234567890", mac: "ee:ee:ee:ee:ee:ee" },
    container: { name, mac: "02:00:00:00:00:01", mtuBytes, sandbox },
    ips: ips.map(parseIP),
    routes: [
      { dst: "0.0.0.0/0", gw: GATEWAY[4] },
      { dst: "::/0", gw: GATEWAY[6] },
    ],
    dns: {},
  }));

it("what ADD answers is what CHECK takes for its own, in every version that has CHECK", () => {
  fc.assert(
    fc.property(results, fc.constantFrom("0.4.0", "1.0.0", "1.1.0"), (result, cniVersion) => {
      const prevResult: unknown = JSON.parse(JSON.stringify(renderResult(result, cniVersion)));
      // The comparison reads nothing else of a record.
      const record = { result } as WholeRecord;
      expect(comparePrevResult(record, parsePrevResult({ prevResult }))).toBeUndefined();
    }),
  );
});

it("parsePrevResult() reads any JSON or refuses it with code 7", () => {
  const field = fc.oneof(
    fc.jsonValue(),
    fc.array(fc.jsonValue()),
    fc.array(fc.dictionary(fc.string(), fc.jsonValue())),
  );
  const object = fc.record({ interfaces: field, ips: field, routes: field }, { requiredKeys: [] });
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), object), (prevResult) => {
      try {
        parsePrevResult({ name: "net", prevResult });
      } catch (error) {
        if (!(error instanceof CNIError)) throw error;
        expect(error.cniCode).toBe(7);
      }
    }),
  );
});

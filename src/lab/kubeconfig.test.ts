// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { LabError } from "./errors.ts";
import { parseKubeconfig, renderKubeconfig } from "./kubeconfig.ts";

const CREDENTIALS = { server: "https://172.30.0.1:6443", caData: "Q0E=", token: "secret" };

test("parseKubeconfig() reads what renderKubeconfig() writes", () => {
  expect(parseKubeconfig(renderKubeconfig(CREDENTIALS))).toEqual(CREDENTIALS);
});

test("renderKubeconfig() names the certificate's host when a relay stands between", () => {
  expect(renderKubeconfig({ ...CREDENTIALS, tlsServerName: "172.30.0.1" })).toContain(
    '"tls-server-name": "172.30.0.1"',
  );
  expect(renderKubeconfig(CREDENTIALS)).not.toContain("tls-server-name");
});

test("parseKubeconfig() refuses a kubeconfig without a token", () => {
  expect(() => parseKubeconfig('{"clusters":[{"cluster":{"server":"https://x"}}]}')).toThrow(LabError);
});
